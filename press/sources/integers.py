"""Bring a checkpoint that others quantized into Olive's format, which all stages read: integer for integer.

Scales become fp32, which holds those of fp16 and bf16 as they are, and so do all other weights, so that no two types
meet. What is worth the same is written the same: one group a row, or groups larger than the pipeline has, become
several with one scale; zero points that are all the middle are left out.

GPTQ, as AutoGPTQ and gptqmodel write it, packs the rows of the transposed weight into 32 bits, low ones first; the
older `gptq` stores each zero point less one. AWQ, as AutoAWQ writes it, packs its columns in the order of ORDER.
compressed-tensors packs the weight's own columns, as signed numbers plus half of the range, or has them in int8.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from press.core import files, paths
from press.core.errors import UserError
from press.model import checkpoints, quantized_formats
from press.model.quantized_formats import Scheme

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

# Where in 32 bits AutoAWQ has the columns 0 to 7.
ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
SCALES = {"gptq": "scales", "awq": "scales", "compressed-tensors": "weight_scale"}
# What of a layer's tensors is no part of its quantized weight.
BIAS = "bias"


@dataclass(frozen=True)
class Integers:
    """A quantized weight: (codes - zeros) * scales.

    :param codes: uint8 of shape (rows, width)
    :param scales: fp32 of shape (rows, groups)
    :param zeros: uint8 of that shape
    """

    codes: "torch.Tensor"
    scales: "torch.Tensor"
    zeros: "torch.Tensor"

    @property
    def group_size(self) -> int:
        return self.codes.shape[1] // self.scales.shape[1]


def bring(checkpoint: Path) -> None:
    """Bring the quantized checkpoint in a folder into Olive's format, and say what params.yaml must have for it.

    :raises UserError: if it is quantized in a way that is not taken
    """
    # What has no configuration is refused for that.
    scheme = quantized_formats.of_folder(checkpoint) if (checkpoint / paths.CONFIG).exists() else None
    if scheme and scheme.method != quantized_formats.OLIVE:
        _rewrite(checkpoint, scheme)
    if scheme:
        kept = quantized_formats.of_folder(checkpoint) or scheme
        print(f"note: the base model is quantized already, by {scheme.method}: {quantized_formats.settings(kept)}")


def _rewrite(checkpoint: Path, scheme: Scheme) -> None:
    from olive.common.quant.utils import pack_to_uint8
    from safetensors.torch import save_file

    plain, layers = _parted(dict(checkpoints.tensors(checkpoint)), scheme)
    _check_all_alike(plain, layers, scheme)
    weights = {name: integers(tensors, name, scheme) for name, tensors in layers.items()}
    size = _common_group_size(weights, scheme)
    middle = 1 << scheme.bits - 1
    symmetric = all(bool((each.zeros == middle).all()) for each in weights.values())
    written = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in plain.items()}
    for name, each in weights.items():
        times = each.group_size // size
        written[f"{name}.qweight"] = pack_to_uint8(each.codes, scheme.bits)
        written[f"{name}.scales"] = each.scales.repeat_interleave(times, dim=1)
        if not symmetric:
            written[f"{name}.qzeros"] = pack_to_uint8(each.zeros.repeat_interleave(times, dim=1), scheme.bits)
    building = files.fresh(checkpoint / checkpoints.SINGLE)
    save_file({name: tensor.contiguous() for name, tensor in written.items()}, building, {"format": "pt"})
    for path in [*checkpoint.glob("*.safetensors"), checkpoint / checkpoints.INDEX]:
        path.unlink(missing_ok=True)
    building.replace(checkpoint / checkpoints.SINGLE)
    config = checkpoints.read_object(checkpoint / paths.CONFIG)
    config.pop("torch_dtype", None)
    own = {"quant_method": quantized_formats.OLIVE, "bits": scheme.bits, "group_size": size, "symmetric": symmetric}
    files.write_json(checkpoint / paths.CONFIG, {**config, "dtype": "float32", quantized_formats.KEY: own})


def _parted(tensors: "Tensors", scheme: Scheme) -> "tuple[dict[str, torch.Tensor], dict[str, dict[str, torch.Tensor]]]":
    """Part the plain tensors from those of the quantized layers."""
    scales = f".{SCALES[scheme.method]}"
    layers: dict[str, dict[str, torch.Tensor]] = {
        name.removesuffix(scales): {} for name in tensors if name.endswith(scales)
    }
    plain = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if layer in layers and kind != BIAS:
            layers[layer][kind] = tensor
        else:
            plain[name] = tensor
    return plain, layers


def _check_all_alike(plain: "Tensors", layers: Mapping[str, object], scheme: Scheme) -> None:
    """Refuse a model of which other linears are quantized than those of the decoder layers, or fewer."""
    for name in layers:
        if ".layers." not in name:
            raise quantized_formats.refusal(scheme.method, f"{name} too, which a target stores as it says itself")
    for name, tensor in plain.items():
        if ".layers." in name and tensor.dim() == 2:
            layer = name.removesuffix(".weight")
            raise quantized_formats.refusal(scheme.method, f"but {layer} is not, which has to be as all others are")


def integers(tensors: "Tensors", name: str, scheme: Scheme) -> Integers:
    """Read the integers of one layer.

    :param tensors: of the layer, by their names without the layer's
    :param name: of the layer, for sentences
    :raises UserError: if one is missing, or they do not fit together
    """
    reader = {
        "gptq": _gptq,
        "gptq_v2": _gptq,
        "gemm": _awq,
        "pack-quantized": _packed,
        "int-quantized": _unpacked,
    }[scheme.layout]
    try:
        found = reader(tensors, name, scheme)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"the base model's {name} is not as {scheme.method} ({scheme.layout}) has a layer of {scheme.bits} bits: "
            f"{type(error).__name__} {error}"
        ) from error
    rows, width = found.codes.shape
    groups = 1 if scheme.group_size == -1 else width // scheme.group_size
    if found.scales.shape != (rows, groups) or found.zeros.shape != (rows, groups) or width % groups:
        raise UserError(
            f"the base model's {name} has {rows} rows of {width} weights, and scales of the shape "
            f"{list(found.scales.shape)}, which are not those of groups of {scheme.group_size}"
        )
    order = next((tensors[key] for key in ("g_idx", "weight_g_idx") if key in tensors), None)
    if order is not None and not _is_plain(order, width, scheme):
        raise quantized_formats.refusal(
            scheme.method,
            f"and the groups of {name} go by the order of its activations (desc_act or actorder, g_idx), which no "
            "graph here has",
        )
    return found


def _is_plain(order: "torch.Tensor", width: int, scheme: Scheme) -> bool:
    import torch

    size = width if scheme.group_size == -1 else scheme.group_size
    return bool(order.numel() == 0 or order.equal((torch.arange(width) // size).to(order.dtype)))


def _gptq(tensors: "Tensors", name: str, scheme: Scheme) -> Integers:
    codes = unpacked(tensors["qweight"], scheme.bits, 0).T
    zeros = unpacked(tensors["qzeros"], scheme.bits, 1).T
    if scheme.layout == "gptq":
        # One more than the largest is a carry for one library and a larger zero point for another.
        if bool((zeros == (1 << scheme.bits) - 1).any()):
            raise quantized_formats.refusal(
                "gptq", f"and {name} has zero points that libraries read differently: save it as gptq_v2"
            )
        zeros = zeros + 1
    return Integers(codes, tensors["scales"].float().T, zeros)


def _awq(tensors: "Tensors", name: str, scheme: Scheme) -> Integers:
    def columns(packed: "torch.Tensor") -> "torch.Tensor":
        found = unpacked(packed, scheme.bits, 1)
        return found.unflatten(1, (-1, len(ORDER)))[:, :, list(ORDER)].flatten(1)

    if scheme.bits != 4:
        raise quantized_formats.refusal("awq", f"in {scheme.bits} bits, but its format has 4")
    return Integers(columns(tensors["qweight"]).T, tensors["scales"].float().T, columns(tensors["qzeros"]).T)


def _packed(tensors: "Tensors", name: str, scheme: Scheme) -> Integers:
    rows, width = (int(each) for each in tensors["weight_shape"])
    codes = unpacked(tensors["weight_packed"], scheme.bits, 1)
    if codes.shape[1] - width not in range(32 // scheme.bits):
        raise ValueError(f"{codes.shape[1]} columns are packed for the {width} of its weight_shape")
    codes = codes[:, :width]
    scales = tensors["weight_scale"].float()
    zeros = unpacked(tensors["weight_zero_point"], scheme.bits, 0)[:rows] if not scheme.symmetric else None
    return Integers(codes, scales, _middle(scales, scheme) if zeros is None else zeros)


def _unpacked(tensors: "Tensors", name: str, scheme: Scheme) -> Integers:
    import torch

    half, scales = 1 << scheme.bits - 1, tensors["weight_scale"].float()
    weight = tensors["weight"]
    if weight.dtype != torch.int8:
        raise ValueError(f"its weight is {weight.dtype}")
    zeros = _middle(scales, scheme) if scheme.symmetric else (tensors["weight_zero_point"].int() + half).to(torch.uint8)
    return Integers((weight.int() + half).to(torch.uint8), scales, zeros)


def _middle(scales: "torch.Tensor", scheme: Scheme) -> "torch.Tensor":
    import torch

    return torch.full_like(scales, 1 << scheme.bits - 1, dtype=torch.uint8)


def unpacked(packed: "torch.Tensor", bits: int, dimension: int) -> "torch.Tensor":
    """Return the numbers that are packed into 32 bits along a dimension, low ones first."""
    import torch

    if packed.dtype != torch.int32:
        raise ValueError(f"it is packed into {packed.dtype}, not int32")
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    along = packed if dimension else packed.T
    numbers = (along.unsqueeze(-1) >> shifts & (1 << bits) - 1).to(torch.uint8).flatten(1)
    return numbers if dimension else numbers.T


def _common_group_size(weights: Mapping[str, Integers], scheme: Scheme) -> int:
    """Return the largest size of group that the pipeline has and that divides those of all layers."""
    largest = math.gcd(*(each.group_size for each in weights.values()))
    for size in quantized_formats.GROUP_SIZES:
        if largest % size == 0:
            return size
    raise quantized_formats.refusal(scheme.method, f"in groups of {largest}, but the pipeline has those of 16 to 256")
