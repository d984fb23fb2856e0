"""A model in GGUF, llama.cpp's format, as a checkpoint in fp32."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from press.core.errors import UserError
from press.model import checkpoints
from press.sources import gguf_tokenizer, tokenizers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def convert(path: Path, target: Path) -> None:
    """Convert a model.

    :raises UserError: if it is damaged, lacks weights or layers, has others than its architecture, or its pre-tokenizer
        is unknown
    """
    from transformers import AutoModelForCausalLM
    from transformers.integrations.gguf import read_gguf_metadata

    with checkpoints.readable(path.name):
        metadata, names = read_gguf_metadata(str(path))
        check_layers(path.name, metadata, names)
        file = {"gguf_file": path.name, "trust_remote_code": False}
        tokenizer = gguf_tokenizer.read(path, metadata)
        options = {"dtype": "float32", "output_loading_info": True}
        model, loading_info = AutoModelForCausalLM.from_pretrained(path.parent, **file, **options)
        check_weights(path.name, metadata, names, model, loading_info["missing_keys"])
    checkpoints.forget_quantizer(model)
    ends = gguf_tokenizer.ends(metadata)
    if len(ends) > 1:
        model.generation_config.eos_token_id = ends
    model.save_pretrained(target)
    tokenizers.save(tokenizer, target)


def check_layers(name: str, metadata: dict, names: tuple[str, ...]) -> None:
    """Refuse a model that has another number of layers than it says.

    :param name: the file, for the sentence
    :param names: of its tensors
    """
    key = f"{metadata.get('general.architecture')}.block_count"
    layers = len({match[1] for each in names if (match := re.match(r"blk\.(\d+)\.", each))})
    if metadata.get(key) != layers:
        raise UserError(f"{name} has {key} {metadata.get(key)}, but the weights of {layers} layers")


def check_weights(
    name: str, metadata: dict, names: tuple[str, ...], model: "PreTrainedModel", missing: Collection[str]
) -> None:
    """Refuse a model some of whose weights transformers did not find, or left out, which it does without a word.

    :param name: the file, for the sentence
    :param names: of its tensors
    :param missing: the names of weights that transformers made up
    """
    if missing:
        raise UserError(
            f"{name} lacks {len(missing)} of its architecture's weights, such as {min(missing)}: they would be "
            "random numbers"
        )
    surplus = set(names) - _names(model, metadata["general.architecture"])
    if surplus:
        raise UserError(
            f"{name} has {len(surplus)} weights that transformers leaves out, such as {min(surplus)}: without them it "
            "would be another model"
        )


def _names(model: "PreTrainedModel", kind: str) -> set[str]:
    """Return llama.cpp's names of a model's weights."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    (architecture,) = [each for each, name in MODEL_ARCH_NAMES.items() if name == kind]
    table = get_tensor_name_map(architecture, model.config.num_hidden_layers)
    return {str(table.get_name(name, try_suffixes=(".weight", ".bias"))) for name in model.state_dict()}
