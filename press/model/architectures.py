"""The architectures that the pipeline takes: those whose ONNX models are tested against PyTorch, and no others.

tests/test_architectures.py builds a small random model of each; docs/models.md has the table of what it found.
"""

from dataclasses import dataclass
from pathlib import Path

from press.core.errors import UserError
from press.model import checkpoints


@dataclass(frozen=True)
class Architecture:
    """What is supported of an architecture, by its `model_type` in config.json.

    :param models: models that have it
    :param rope_types: how their rotary embeddings may be scaled; others come out of the model builder unscaled or wrong
    """

    models: str
    rope_types: tuple[str, ...] = ("default",)


SUPPORTED = {
    "llama": Architecture("Llama 3, SmolLM2, TinyLlama", ("default", "llama3")),
    "mistral": Architecture("Mistral 7B"),
    "qwen2": Architecture("Qwen2, Qwen2.5"),
    "qwen3": Architecture("Qwen3"),
    "gemma2": Architecture("Gemma 2"),
    "gemma3_text": Architecture("Gemma 3 270M and 1B"),
    "granite": Architecture("Granite 3"),
    "smollm3": Architecture("SmolLM3"),
    "phi3": Architecture("Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini", ("default", "longrope")),
}


def read(path: Path) -> dict:
    """Return the content of a supported model's config.json."""
    config = checkpoints.read_object(path)
    check(config)
    return config


def check(config: dict) -> None:
    """Refuse the configuration, as config.json has it, of a model that the pipeline does not take."""
    name = config.get("model_type")
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


def rope_types(config: dict) -> set[str]:
    """Return the names of the scalings: one, or one for each kind of layer."""
    # transformers 5 has the first key, the versions before the second; and `rope_type` was `type` once.
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(parameters, dict):
        raise UserError(f"the base model's config.json scales rotary embeddings by {parameters!r}, which is no block")
    blocks = [block for block in parameters.values() if isinstance(block, dict)] or [parameters]
    return {str(block.get("rope_type") or block.get("type") or "default") for block in blocks}
