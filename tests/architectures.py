"""Tiny random models of every architecture, with norms and biases that do something."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from press.sources import tokenizers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENIZER = tokenizers.of_bytes()
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "vocab_size": len(TOKENIZER),
    "bos_token_id": TOKENIZER.bos_token_id,
    "pad_token_id": TOKENIZER.pad_token_id,
    "eos_token_id": TOKENIZER.eos_token_id,
}
LOCAL_AND_GLOBAL = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
SWITCH = 48  # tokens up to which the short factors of a long rope hold
LONG_ROPE = {
    "original_max_position_embeddings": SWITCH,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0 + 0.1 * index for index in range(8)],
        "long_factor": [2.0 + 0.5 * index for index in range(8)],
        "original_max_position_embeddings": SWITCH,
    },
}
SHORT_ROPE = {"original_max_position_embeddings": SHAPE["max_position_embeddings"]}
ARCHITECTURES = {
    "llama": {},
    "llama with biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 16},
    "qwen2": {},
    "qwen3": {},
    "gemma2": LOCAL_AND_GLOBAL,
    "gemma3_text": LOCAL_AND_GLOBAL,
    "gemma4_text": {
        **LOCAL_AND_GLOBAL,
        "global_head_dim": 32,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
        "hidden_size_per_layer_input": 0,
        "final_logit_softcapping": 3.0,
        "allow_global_per_layer_attribute_access": True,  # as fetch writes it
    },
    "granite": {"residual_multiplier": 0.5, "attention_multiplier": 0.2, "embedding_multiplier": 2.0},
    "smollm3": {"no_rope_layers": [1, 0]},
    "phi3": {"num_key_value_heads": 4, **LONG_ROPE},
    "phi3 with grouped queries": {"model_type": "phi3", **SHORT_ROPE},
    "stablelm": {"use_qkv_bias": True},  # its norms have biases
    "gemma": {},
    "ernie4_5": {"use_bias": True, "head_dim": 32},
    "hunyuan_v1_dense": {},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_multiple_of": 16},
    "lfm2_moe": {
        "layer_types": ["conv", "full_attention"],
        "num_dense_layers": 1,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
    },
    "ministral": LOCAL_AND_GLOBAL,
    "ministral3": {
        "head_dim": 32,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 4.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 0.5,
            "llama_4_scaling_beta": 0.5,
        },
    },
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "intermediate_size": 64,
        "shared_intermediate_size": 128,
        "position_embedding_type": "nope",
        "mamba_n_heads": 8,
        "mamba_d_state": 32,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.2,
        "embedding_multiplier": 2.0,
        "logits_scaling": 3.0,
    },
    "nemotron": {"hidden_size": 128, "head_dim": 32, "attention_bias": True, "norm_eps": 0.01},
    "phi": {"hidden_size": 128, "head_dim": 32, "layer_norm_eps": 0.01},
    "qwen3_5_text": {
        "mtp_num_hidden_layers": 1,  # whose weights its text part leaves out
        "initializer_range": 0.05,  # small, so that the epsilon by which queries and keys are normalized counts
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "head_dim": 32,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [4, 2, 2],
            "mrope_interleaved": True,
        },
    },
    "olmo": {},  # its norms have no weights
}
ARCHITECTURES["qwen3_5_moe_text"] = {
    **ARCHITECTURES["qwen3_5_text"],
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 128,
}

# What matters to the graph and not to a quantizer.
ROPES_AND_WINDOWS = {
    "llama with llama3 rope": {
        "model_type": "llama",
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "llama with wide heads": {"model_type": "llama", "head_dim": 32},
    "qwen2 with a window": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 16,
        "max_window_layers": 1,
    },
    "hunyuan_v1_dense with alpha": {
        "model_type": "hunyuan_v1_dense",
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 1.0, "alpha": 1000.0},
    },
    # The embeddings are scaled by the root of this width, which no two decimals give.
    **{
        f"{name} with a width that is no square": {"model_type": name, "hidden_size": 96, **layers}
        for name, layers in (("gemma", {}), ("gemma2", LOCAL_AND_GLOBAL), ("gemma3_text", LOCAL_AND_GLOBAL))
    },
    "granitemoehybrid without mamba": {
        "model_type": "granitemoehybrid",
        "layer_types": ["attention", "attention"],
        "num_local_experts": 0,
        "shared_intermediate_size": 128,
        "position_embedding_type": "rope",
        "mamba_n_heads": 8,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.2,
        "embedding_multiplier": 2.0,
        "logits_scaling": 3.0,
    },
    "qwen3 with wide heads": {"model_type": "qwen3", "head_dim": 32},
    "phi3 with a window": {"model_type": "phi3", "sliding_window": 16, **SHORT_ROPE},
    "phi3 with partial rotation": {
        "model_type": "phi3",
        "hidden_size": 128,
        "head_dim": 32,
        "original_max_position_embeddings": SWITCH,
        "partial_rotary_factor": 0.5,
        "rope_parameters": {**LONG_ROPE["rope_parameters"], "partial_rotary_factor": 0.5},
    },
}


def random_model(name: str, dtype: torch.dtype = torch.float32, **changes: object) -> "PreTrainedModel":
    """Build the model. Norms have gains from 0.5 to 1.5 that every type can hold, also halved and quartered."""
    # Here, since every unit test of a pass imports this module, and the models take seconds.
    from transformers import AutoConfig, AutoModelForCausalLM

    from press.model import checkpoints

    torch.manual_seed(0)
    config = {"model_type": name, **SHAPE, **(ARCHITECTURES | ROPES_AND_WINDOWS).get(name, {}), **changes}
    checkpoints.set_experts_apart(config)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=dtype).eval().requires_grad_(False)
    offset = 1 if config["model_type"].startswith(("gemma", "nemotron", "qwen3_5")) else 0
    offset = 0 if config["model_type"] == "gemma4_text" else offset
    for path, parameter in model.named_parameters():
        if path.endswith("norm.weight"):
            parameter.copy_(torch.randint(32, 97, parameter.shape) / 64 - (0 if "linear_attn" in path else offset))
        if path.endswith((".bias", "mamba.D", "mamba.dt_bias")):
            parameter.normal_(std=0.5)
    for path, buffer in model.named_buffers():
        if path.endswith("layer_scalar"):
            buffer.fill_(0.75)
        if path.endswith("expert_bias"):
            buffer.normal_(std=0.5)
    return model


def save(model: "PreTrainedModel", folder: Path) -> Path:
    """Save a checkpoint with the byte-level tokenizer; return its folder."""
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder
