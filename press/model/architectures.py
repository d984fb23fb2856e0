"""The architectures that the pipeline takes: those whose ONNX models are tested against PyTorch, and no others.

tests/test_architectures.py builds a small random model of each; docs/models.md has the table of what it found.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from press.core.errors import UserError
from press.model import checkpoints, quantized_formats


@dataclass(frozen=True)
class Architecture:
    """What is supported of an architecture, by its `model_type` in config.json.

    :param models: models that have it
    :param rope_types: how their rotary embeddings may be scaled; others come out of the model builder unscaled or wrong
    :param values: keys of config.json that may have these values alone, None where they may be left out; the model
        builder has no code for others, or passes over them
    :param reasons: for some of these keys, why
    """

    models: str
    rope_types: tuple[str, ...] = ("default",)
    values: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


PER_LAYER = "the model builder takes the table of its layers' own inputs for that of its tokens: the graph does not run"
SHARED_KEYS = "the model builder looks for keys and values in layers that take those of others: it writes no graph"
GATES = "ONNX Runtime has no product of experts with gates by GELU (geglu) on the CPU: the graph does not load"
SUPPORTED = {
    "llama": Architecture("Llama 3, SmolLM2, TinyLlama", ("default", "llama3")),
    "mistral": Architecture("Mistral 7B"),
    "qwen2": Architecture("Qwen2, Qwen2.5"),
    "qwen3": Architecture("Qwen3"),
    "qwen3_5_text": Architecture("Qwen3.5"),
    "qwen3_5_moe_text": Architecture("Qwen3.5 35B-A3B", values={"hidden_act": (None, "silu")}),
    "ernie4_5": Architecture("ERNIE 4.5 0.3B"),
    "hunyuan_v1_dense": Architecture("Hunyuan 0.5B to 7B, HY-MT", ("default", "dynamic by alpha")),
    "lfm2": Architecture("LFM2 350M to 2.6B", values={"conv_bias": (None, False)}),
    "lfm2_moe": Architecture(
        "LFM2 8B-A1B and 24B-A2B", values={"conv_bias": (None, False), "norm_topk_prob": (None, True)}
    ),
    "ministral": Architecture("Ministral 8B"),
    "ministral3": Architecture("Ministral 3 3B to 14B in BF16", ("yarn",)),
    "granitemoehybrid": Architecture(
        "Granite 4, dense and hybrid, with experts (H Tiny, H Small) and without (350M, 1B, Micro)",
        values={
            "mamba_n_groups": (None, 1),
            "mamba_proj_bias": (None, False),
            "hidden_act": (None, "silu"),
            # The limits of no limit: JSON has no infinity, for which transformers writes a block.
            "time_step_limit": (None, 0.0, math.inf, {"__float__": "Infinity"}),
        },
    ),
    "nemotron": Architecture("Minitron, Nemotron 4", values={"mlp_bias": (None, False)}),
    "phi": Architecture("Phi-1.5, Phi-2", values={"qk_layernorm": (None, False)}),
    "olmo": Architecture("OLMo 1B and 7B", values={"clip_qkv": (None,)}),
    "gemma": Architecture("Gemma", values={"use_bidirectional_attention": (None, False)}),
    "gemma2": Architecture("Gemma 2"),
    "gemma3_text": Architecture("Gemma 3 270M and 1B"),
    "gemma4_text": Architecture(
        "Gemma 4 12B and 31B",
        ("default", "proportional"),
        values={
            "hidden_size_per_layer_input": (0,),
            "num_kv_shared_layers": (None, 0),
            "enable_moe_block": (None, False),
            "use_bidirectional_attention": (None, "vision"),
        },
        reasons={
            "hidden_size_per_layer_input": PER_LAYER,
            "num_kv_shared_layers": SHARED_KEYS,
            "enable_moe_block": GATES,
        },
    ),
    "granite": Architecture("Granite 3"),
    "smollm3": Architecture("SmolLM3"),
    "phi3": Architecture("Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini", ("default", "longrope")),
}

# Models that also see or hear, of which `fetch` takes the part for text, and what that is if config.json does not say.
WITH_OTHER_PARTS = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "gemma4_unified": "gemma4_unified_text",
    "lfm2_vl": "lfm2",
    "mistral3": "mistral",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
}
ONE_SHAPE = "allow_global_per_layer_attribute_access"
# What `fetch` lets config.json say of some text parts: the name of the architecture that they are, the last two without
# pictures; and of Gemma 4 that what knows one shape of heads may read the first layers', which Olive does in vain.
SAME: dict[str, dict[str, object]] = {
    "gemma4_text": {ONE_SHAPE: True},
    "gemma4_unified_text": {"model_type": "gemma4_text", "hidden_size_per_layer_input": 0, ONE_SHAPE: True},
    "internlm3": {"model_type": "llama"},
    "iquestcoder": {"model_type": "llama"},
    "qwen2_5_vl_text": {"model_type": "qwen2"},
    "qwen3_vl_text": {"model_type": "qwen3"},
}

# Architectures that transformers and the model builder know and the pipeline does not take, and why.
REFUSED = {
    "gpt_oss": "its experts come in floats of 4 bits (MXFP4), which ONNX Runtime's product on the CPU takes for "
    "integers; rounded once more, to integers, the weights are 8 % of their norm off",
    "phimoe": "ONNX Runtime's product of experts on the CPU has no sparse mixer: half of the largest output off",
    "shieldgemma2": "it judges pictures and writes no text",
    "whisper": "it writes down speech and continues no text",
}


def read(path: Path) -> dict:
    """Return the content of a supported model's config.json, which may be quantized in a format that is taken."""
    config = checkpoints.read_object(path)
    check(config)
    quantized_formats.of(config)
    return config


def text_part(config: dict) -> dict:
    """Return the part for text of a configuration as config.json has it, by the name that SUPPORTED has for it."""
    name, part = config.get("model_type"), config
    if isinstance(name, str) and name in WITH_OTHER_PARTS:
        part = config.get("text_config")
        if not isinstance(part, dict):
            raise UserError(f"the base model's config.json is of a {name}, but has no block text_config")
        name = part.get("model_type") or WITH_OTHER_PARTS[name]
    return {**part, "model_type": name, **(SAME.get(name, {}) if isinstance(name, str) else {})}


def check(config: dict) -> None:
    """Refuse the configuration, as config.json has it, of a model that the pipeline does not take."""
    config = text_part(config)
    name = config.get("model_type")
    if isinstance(name, str) and name in REFUSED:
        raise UserError(f"the base model's architecture is {name}, which this pipeline does not take: {REFUSED[name]}")
    if not isinstance(name, str) or name not in SUPPORTED:
        raise UserError(
            f"the base model's architecture is {name or 'not named'}, but those that this pipeline supports are "
            f"{', '.join(sorted(SUPPORTED))}"
        )
    supported = SUPPORTED[name].rope_types
    for rope_type in sorted(rope_types(config) - set(supported)):
        raise UserError(
            f"the base model's rotary embeddings are scaled by {rope_type}, but those of {name} that this pipeline "
            f"supports are {', '.join(supported)}"
        )
    for key, values in SUPPORTED[name].values.items():
        given = config.get(key)
        for value in given if isinstance(given, list | tuple) else [given]:
            if value not in values:
                reason = SUPPORTED[name].reasons.get(key)
                raise UserError(
                    f"the base model's config.json has {key} {json.dumps(value)}, but of {name} this pipeline supports "
                    f"only {' or '.join(map(json.dumps, values))}{f': {reason}' if reason else ''}"
                )


def rope_types(config: dict) -> set[str]:
    """Return the names of the scalings: one, or one for each kind of layer."""
    # transformers 5 has the first key, the versions before the second; and `rope_type` was `type` once.
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(parameters, dict):
        raise UserError(f"the base model's config.json scales rotary embeddings by {parameters!r}, which is no block")
    blocks = [block for block in parameters.values() if isinstance(block, dict)] or [parameters]
    return {_rope_type(block) for block in blocks}


def _rope_type(block: dict) -> str:
    name = str(block.get("rope_type") or block.get("type") or "default")
    # Hunyuan's, which by the same name is a fixed scaling of the frequencies.
    return "dynamic by alpha" if name == "dynamic" and block.get("alpha") else name
