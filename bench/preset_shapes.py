"""Shapes of the presets' models: keys of the config.json that each has on the hub, as far as memory and time follow.

Values are those that the models' makers published. Rotary embeddings are the plain ones of that shape, since their
scaling moves no weight.
"""

from typing import Any

QWEN3: dict[str, Any] = {"model_type": "qwen3", "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}
GEMMA3: dict[str, Any] = {
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 262144,
    "sliding_window": 512,
}
LLAMA32: dict[str, Any] = {
    "model_type": "llama",
    "intermediate_size": 8192,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
SMOLLM2: dict[str, Any] = {"model_type": "llama", "vocab_size": 49152}
LFM2: dict[str, Any] = {
    "model_type": "lfm2",
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "vocab_size": 65536,
    "layer_types": ["full_attention" if index in (2, 5, 8, 10, 12, 14) else "conv" for index in range(16)],
}

SHAPES: dict[str, dict[str, Any]] = {
    "gemma-3-270m": GEMMA3 | {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18},
    "gemma-3-1b": GEMMA3 | {"hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26},
    "granite-4.0-micro": {
        "model_type": "granitemoehybrid",
        "hidden_size": 2560,
        "shared_intermediate_size": 8192,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "vocab_size": 100352,
        "num_local_experts": 0,
        "position_embedding_type": "rope",
        "layer_types": ["attention"],
    },
    "lfm2-350m": LFM2 | {"hidden_size": 1024, "intermediate_size": 6656, "num_attention_heads": 16},
    "lfm2-1.2b": LFM2 | {"hidden_size": 2048, "intermediate_size": 12288, "num_attention_heads": 32},
    "llama-3.2-1b": LLAMA32 | {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32},
    "llama-3.2-3b": LLAMA32 | {"hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24},
    "phi-4-mini": {
        "model_type": "phi3",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "vocab_size": 200064,
    },
    "qwen3-0.6b": QWEN3
    | {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "qwen3-1.7b": QWEN3
    | {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
    "qwen3-4b": QWEN3
    | {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
    "smollm2-360m": SMOLLM2
    | {
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
    },
    "smollm2-1.7b": SMOLLM2
    | {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    "smollm3-3b": {
        "model_type": "smollm3",
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 128256,
    },
}


def config(name: str, layers: int | None = None) -> dict[str, Any]:
    """Return the keys of a preset's model, which ties its embeddings; with fewer layers, if so many are asked for."""
    values: dict[str, Any] = {**SHAPES[name], "max_position_embeddings": 4096, "tie_word_embeddings": True}
    count = layers or values["num_hidden_layers"]
    values["num_hidden_layers"] = count
    if kinds := values.get("layer_types"):
        values["layer_types"] = [kinds[index % len(kinds)] for index in range(count)]
    return values
