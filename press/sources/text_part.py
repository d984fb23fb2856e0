"""The part for text of a model that also sees or hears, as a checkpoint of its own."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from press.core import files, paths
from press.model import architectures, checkpoints
from press.sources import rewriting

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# What the layers and the head are called in such a checkpoint, by transformers 5 or the versions before.
TEXT = re.compile(r"(?:model\.language_model|language_model\.model|model(?=\.(?:embed_tokens|layers|norm)\.))\.(.+)")
HEAD = re.compile(r"(?:language_model\.)?(lm_head\..+)")
# What a configuration may say of the whole model alone, and which holds for its text part.
SHARED = ("bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype", "quantization_config")


def keep(checkpoint: Path) -> None:
    """Leave of a checkpoint the part that reads and writes text, in place, by the name that the pipeline has for it."""
    config = checkpoints.read_object(checkpoint / paths.CONFIG) if (checkpoint / paths.CONFIG).exists() else {}
    name = config.get("model_type")
    if name is None or architectures.text_part(config) == config:
        return
    weights = checkpoints.weight_shapes(checkpoint)
    kept = {weight: own for weight in weights if (own := own_name(weight))}
    # First, since what it is read from must be whole.
    text = _config(checkpoint, config, "lm_head.weight" in kept.values())
    if kept != {weight: weight for weight in weights}:
        rewriting.rewrite(checkpoint, lambda name, read: {kept[name]: read()} if name in kept else {})
    files.write_json(checkpoint / paths.CONFIG, text)
    left = ", ".join(sorted({weight.removeprefix("model.").partition(".")[0] for weight in set(weights) - set(kept)}))
    rest = f"; left out are {left}" if left else ""
    print(f"note: of the base model, a {name}, its text part is taken, a {text['model_type']}{rest}")


def own_name(name: str) -> str | None:
    """Return what a weight is called in the text part, None if it is of another part."""
    if match := TEXT.fullmatch(name):
        return f"model.{match[1]}"
    match = HEAD.fullmatch(name)
    return match[1] if match else None


def _config(checkpoint: Path, whole: dict[str, Any], has_head: bool) -> dict[str, Any]:
    """Return the text part's configuration.

    :param whole: what the checkpoint's config.json has
    :param has_head: whether its head has weights of its own
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    with checkpoints.readable(paths.CONFIG):
        config: PreTrainedConfig = AutoConfig.from_pretrained(checkpoint)
    text = config.get_text_config().to_dict()
    same = architectures.SAME.get(text["model_type"], {})
    text |= {key: whole[key] for key in SHARED if whole.get(key) is not None} | same
    if same and text.get("rope_parameters"):
        # Of three axes of position, which are one and the same for text.
        rope = text["rope_parameters"]
        text["rope_parameters"] = {key: value for key, value in rope.items() if not key.startswith("mrope_")}
    return text | {
        "architectures": [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[text["model_type"]]],
        "tie_word_embeddings": bool(getattr(config, "tie_word_embeddings", False)) or not has_head,
    }
