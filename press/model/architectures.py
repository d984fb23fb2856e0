"""The architectures that the pipeline takes: those whose ONNX models are tested against PyTorch, and no others.

tests/test_architectures.py builds a small random model of each; docs/models.md has the table of what it found.
"""

import json
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
    """

    models: str
    rope_types: tuple[str, ...] = ("default",)
    values: Mapping[str, tuple[object, ...]] = field(default_factory=dict)


SUPPORTED = {
    "llama": Architecture("Llama 3, SmolLM2, TinyLlama", ("default", "llama3")),
    "mistral": Architecture("Mistral 7B"),
    "qwen2": Architecture("Qwen2, Qwen2.5"),
    "qwen3": Architecture("Qwen3"),
    "qwen3_5_text": Architecture("the text part of Qwen3.5, as a checkpoint of its own"),
    "ernie4_5": Architecture("ERNIE 4.5 0.3B"),
    "hunyuan_v1_dense": Architecture("Hunyuan 0.5B to 7B, HY-MT", ("default", "dynamic by alpha")),
    "lfm2": Architecture("LFM2 350M to 2.6B", values={"conv_bias": (None, False)}),
    "ministral": Architecture("Ministral 8B"),
    "granitemoehybrid": Architecture(
        "Granite 4 Micro (dense)",
        values={
            "num_local_experts": (0,),
            "layer_types": ("attention", "full_attention"),
            "position_embedding_type": ("rope",),
        },
    ),
    "nemotron": Architecture("Minitron, Nemotron 4", values={"mlp_bias": (None, False)}),
    "phi": Architecture("Phi-1.5, Phi-2", values={"qk_layernorm": (None, False)}),
    "olmo": Architecture("OLMo 1B and 7B", values={"clip_qkv": (None,)}),
    "gemma": Architecture("Gemma", values={"use_bidirectional_attention": (None, False)}),
    "gemma2": Architecture("Gemma 2"),
    "gemma3_text": Architecture("Gemma 3 270M and 1B"),
    "granite": Architecture("Granite 3"),
    "smollm3": Architecture("SmolLM3"),
    "phi3": Architecture("Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini", ("default", "longrope")),
}

PER_LAYER = "the model builder leaves out its per-layer inputs and shared key-value layers: logits would be wrong"
LATE_POSITIONS = (
    "the model builder leaves out how queries at late positions are scaled (llama_4_scaling_beta): logits of long "
    "prompts would be wrong"
)
EXPERTS = "the weights of its experts are no linear layers, so that no quantizer here takes them"
# Architectures that transformers and the model builder know and the pipeline does not take, and why.
REFUSED = {
    "gemma4": PER_LAYER,
    "gemma4_text": PER_LAYER,
    "gpt_oss": EXPERTS,
    "lfm2_moe": EXPERTS,
    "ministral3": LATE_POSITIONS,
    "mistral3": LATE_POSITIONS,
    "phimoe": EXPERTS,
    "qwen3_5": "it is an image-text model: save its text part as a checkpoint of its own, which is a qwen3_5_text",
    "qwen3_5_moe": EXPERTS,
    "qwen3_5_moe_text": EXPERTS,
}


def read(path: Path) -> dict:
    """Return the content of a supported model's config.json, which may be quantized in a format that is taken."""
    config = checkpoints.read_object(path)
    check(config)
    quantized_formats.of(config)
    return config


def check(config: dict) -> None:
    """Refuse the configuration, as config.json has it, of a model that the pipeline does not take."""
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
        for value in given if isinstance(given, list) else [given]:
            if value not in values:
                raise UserError(
                    f"the base model's config.json has {key} {json.dumps(value)}, but of {name} this pipeline supports "
                    f"only {' or '.join(map(json.dumps, values))}"
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
