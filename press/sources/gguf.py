"""A model in GGUF, llama.cpp's format, as a checkpoint in fp32."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, cast

from press.core.errors import UserError
from press.model import checkpoints
from press.sources import tokenizers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BYTE_LEVEL = "gpt2"
DIGIT = r"\p{N}"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The regular expressions by which llama.cpp splits a text, one after the other, for those of its pre-tokenizers that
# transformers does not know: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp. With these steps,
# and not as Digits before ByteLevel, onnxruntime-genai splits it likewise.
SPLITS = {"gpt-2": (GPT2,), "smollm": (DIGIT, GPT2)}


def convert(path: Path, target: Path) -> None:
    """Convert a model.

    :raises UserError: if it is damaged, lacks weights or layers, has others than its architecture, or its pre-tokenizer
        is unknown
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.integrations.gguf import read_gguf_metadata

    with checkpoints.readable(path.name):
        metadata, names = read_gguf_metadata(str(path))
        check_layers(path.name, metadata, names)
        file = {"gguf_file": path.name, "trust_remote_code": False}
        tokenizer = cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(path.parent, **file))
        set_pre_tokenizer(tokenizer, path.name, metadata)
        options = {"dtype": "float32", "output_loading_info": True}
        model, found = AutoModelForCausalLM.from_pretrained(path.parent, **file, **options)
        check_weights(path.name, metadata, names, model, found["missing_keys"])
    checkpoints.forget_quantizer(model)
    model.save_pretrained(target)
    tokenizers.save(tokenizer, target)


def check_layers(name: str, metadata: dict, names: tuple[str, ...]) -> None:
    """Refuse a model that has another number of layers than it says.

    :param name: the file, for the sentence
    :param names: of its tensors
    """
    key = f"{metadata.get('general.architecture')}.block_count"
    layers = len({found[1] for each in names if (found := re.match(r"blk\.(\d+)\.", each))})
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


def set_pre_tokenizer(tokenizer: "PreTrainedTokenizerBase", name: str, metadata: dict) -> None:
    """Let a byte-level tokenizer split texts as the model's own does, where transformers leaves that out.

    :param name: the file, for the sentence
    :raises UserError: if it names no pre-tokenizer that is known
    """
    from tokenizers import Regex, pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    chosen = metadata.get("tokenizer.ggml.pre")
    if metadata.get("tokenizer.ggml.model") != BYTE_LEVEL or chosen in GGUF_PRE_TOKENIZER_SPLITS:
        return
    if chosen not in SPLITS:
        known = ", ".join(sorted({*SPLITS, *GGUF_PRE_TOKENIZER_SPLITS}))
        raise UserError(
            f"{name} names the pre-tokenizer {chosen or '(none)'} (tokenizer.ggml.pre), but those that are known are "
            f"{known}: texts would be split into other tokens than the model was trained on"
        )
    steps = [pre_tokenizers.Split(Regex(split), behavior="isolated") for split in SPLITS[chosen]]
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, bytewise])
