"""A checkpoint's weights: those that its architecture asks for, in the sizes of its configuration, and all of them
numbers."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from press.core import nested, paths
from press.core.errors import UserError
from press.model import checkpoints, quantized_formats

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Shapes = Mapping[str, tuple[int, ...]]

EMBEDDING = "model.embed_tokens.weight"
# What the runtime's whole numbers hold.
LARGEST = 2**31 - 1
# Keys of config.json that are numbers of something, with their largest; transformers gives each label a name.
SIZES = {
    "head_dim": LARGEST,
    "hidden_size": LARGEST,
    "intermediate_size": LARGEST,
    "max_position_embeddings": LARGEST,
    "num_attention_heads": LARGEST,
    "num_hidden_layers": LARGEST,
    "num_key_value_heads": LARGEST,
    "num_labels": 100_000,
    "vocab_size": LARGEST,
}
# Keys of what turns positions into angles, which is no number for any other value.
ROTARY = re.compile(r"rope.*(theta|freq|factor)$")
# Tables that checkpoints of older versions of transformers have, and which are computed since.
COMPUTED = re.compile(r"rotary_emb\.inv_freq$")


def check(folder: Path, trust: bool) -> None:
    """Refuse a checkpoint with missing, superfluous or misshapen weights, or with values that are no numbers.

    :param trust: whether the checkpoint's own Python code may run
    :raises UserError: naming the first of them
    """
    shapes = checkpoints.weight_shapes(folder)
    config = checkpoints.read_object(folder / paths.CONFIG)
    # First, since a model of the wrong sizes may not even be described within any time.
    check_sizes(config, shapes)
    model = described(folder, trust)
    compare(shapes, model)
    check_values(folder)
    check_shared(folder, model)


def check_sizes(config: Mapping, shapes: Shapes) -> None:
    """Refuse a config.json whose sizes are none, or not those of the weights."""
    try:
        check_numbers(config)
    except ValueError as error:
        raise UserError(f"in the base model's config.json, {error}") from error
    layers = {int(match[1]) for name in shapes if (match := re.search(r"\.layers\.(\d+)\.", name))}
    actual = {"num_hidden_layers": len(layers)}
    if len(shapes.get(EMBEDDING, ())) == 2:
        actual |= dict(zip(("vocab_size", "hidden_size"), shapes[EMBEDDING], strict=True))
    for key, size in actual.items():
        if config.get(key, size) != size:
            raise UserError(f"the base model's config.json has {key} {config[key]}, but its weights have {size}")


def check_numbers(config: Mapping) -> None:
    """Raise ValueError for sizes that are none, or so large that a library would take all memory to read them, and for
    what makes no number of a position."""
    for key, most in SIZES.items():
        size = config.get(key)
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= most):
            raise ValueError(f"{key} is {size!r}, but it must be a whole number from 1 to {most}")
    for key, value in nested.flat(config).items():
        for each in (value if isinstance(value, list) else [value]) if ROTARY.search(key) else []:
            if isinstance(each, int | float) and not 0 < each < math.inf:
                raise ValueError(f"{key} is {each!r}, but it must be a number above 0")


def described(folder: Path, trust: bool) -> "PreTrainedModel":
    """Return the model that a checkpoint's config.json describes, without any memory for its weights.

    Of a quantized one, with what Olive's format has in the place of linears.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    checkpoints.set_experts_apart(checkpoints.read_object(folder / paths.CONFIG))
    with checkpoints.readable(paths.CONFIG), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
        if given := getattr(config, quantized_formats.KEY, None):
            from olive.common.quant.hf_utils import OliveHfQuantizationConfig, OliveHfQuantizer

            OliveHfQuantizer(OliveHfQuantizationConfig(**given)).preprocess_model(model)
        return model


def compare(shapes: Shapes, model: "PreTrainedModel") -> None:
    """Refuse weights that are not those of the architecture.

    :param shapes: of the checkpoint's weights
    :param model: what they are for
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = checkpoints.missing(model, shapes)
    surplus = {name for name in shapes if name not in expected and not COMPUTED.search(name)}
    if missing:
        instead = f", and has {min(surplus)}, which is none of them" if surplus else ""
        raise UserError(
            f"the base model lacks {len(missing)} of its architecture's weights, such as {min(missing)}{instead}: they "
            "would be random numbers"
        )
    if surplus:
        raise UserError(
            f"the base model has {len(surplus)} weights that its architecture and config.json have no place for, such "
            f"as {min(surplus)}: without them it would be another model"
        )
    for name in sorted(set(shapes) & set(expected)):
        if shapes[name] != expected[name]:
            raise UserError(
                f"the base model's {name} has the shape {list(shapes[name])}, but by its config.json it must have "
                f"{list(expected[name])}"
            )


def check_values(folder: Path) -> None:
    """Refuse weights with values that are no numbers."""
    for name, tensor in checkpoints.tensors(folder):
        if tensor.numel() and tensor.is_floating_point() and not _is_finite(tensor):
            raise UserError(f"the base model's {name} has values that are no numbers (NaN or infinite)")


def check_shared(folder: Path, model: "PreTrainedModel") -> None:
    """Refuse different values for weights that are one and the same by config.json."""
    pairs = checkpoints.tied(model)
    tensors = {name: tensor for name, tensor in checkpoints.tensors(folder) if name in {*pairs, *pairs.values()}}
    for one, other in pairs.items():
        if one in tensors and other in tensors and not tensors[one].equal(tensors[other]):
            raise UserError(
                f"the base model's {one} and {other} differ, but are one and the same by its config.json "
                "(tie_word_embeddings)"
            )


def _is_finite(tensor: "torch.Tensor") -> bool:
    import torch

    # Types of 8 bits have no order of their own.
    values = tensor.float() if tensor.dtype.itemsize == 1 else tensor
    # What is no number is, or makes, the least or the largest; a table of what is one would take memory.
    return all(torch.isfinite(each) for each in torch.aminmax(values))
