"""Checkpoints as AutoAWQ, AutoGPTQ, gptqmodel and compressed-tensors write them, of random integers.

Written down by the layouts in those libraries' sources (autoawq 0.2.9, gptqmodel 7.7.0, compressed-tensors 0.20.0),
number by number, and not by what reads them here; those libraries' own code reads the same weights from them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from press.core import files

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True)
class Layer:
    """Random integers of one linear: codes (rows, width), scales and zeros (rows, groups)."""

    codes: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor

    @property
    def weight(self) -> torch.Tensor:
        times = self.codes.shape[1] // self.zeros.shape[1]
        zeros, scales = (each.repeat_interleave(times, 1) for each in (self.zeros, self.scales.float()))
        return (self.codes - zeros) * scales


def random_layer(rows: int, width: int, bits: int, group_size: int, symmetric: bool, seed: int = 0) -> Layer:
    generator = torch.Generator().manual_seed(seed)
    groups = 1 if group_size == -1 else width // group_size
    codes = torch.randint(0, 2**bits, (rows, width), generator=generator)
    zeros = torch.randint(1, 2**bits, (rows, groups), generator=generator)
    scales = torch.rand(rows, groups, generator=generator) * 0.02 + 0.001
    return Layer(codes, scales.half(), torch.full_like(zeros, 2 ** (bits - 1)) if symmetric else zeros)


def packed(numbers: torch.Tensor, bits: int, dimension: int, order: tuple[int, ...] | None = None) -> torch.Tensor:
    """Pack numbers into int32 along a dimension, the one that `order` names first into the lowest bits."""
    along = numbers.movedim(dimension, -1).long()
    count = 32 // bits
    words = torch.zeros(*along.shape[:-1], -(-along.shape[-1] // count), dtype=torch.int64)
    for column in range(along.shape[-1]):
        word, place = divmod(column, count)
        words[..., word] |= along[..., column] << bits * (order.index(place) if order else place)
    signed = torch.where(words >= 2**31, words - 2**32, words)
    return signed.to(torch.int32).movedim(-1, dimension).contiguous()


def gptq(layer: Layer, bits: int, less: int = 1) -> dict[str, torch.Tensor]:
    width, groups = layer.codes.shape[1], layer.zeros.shape[1]
    return {
        "qweight": packed(layer.codes.T, bits, 0),
        "qzeros": packed(layer.zeros.T - less, bits, 1),
        "scales": layer.scales.T.contiguous(),
        "g_idx": (torch.arange(width) // (width // groups)).int(),
    }


def gptq_v2(layer: Layer, bits: int) -> dict[str, torch.Tensor]:
    return gptq(layer, bits, less=0)


def awq(layer: Layer, bits: int) -> dict[str, torch.Tensor]:
    return {
        "qweight": packed(layer.codes.T, bits, 1, AWQ_ORDER),
        "qzeros": packed(layer.zeros.T, bits, 1, AWQ_ORDER),
        "scales": layer.scales.T.contiguous(),
    }


def pack_quantized(layer: Layer, bits: int) -> dict[str, torch.Tensor]:
    return {
        "weight_packed": packed(layer.codes, bits, 1),
        "weight_scale": layer.scales,
        "weight_zero_point": packed(layer.zeros, bits, 0),
        "weight_shape": torch.tensor(layer.codes.shape),
    }


def int_quantized(layer: Layer, bits: int) -> dict[str, torch.Tensor]:
    half = 2 ** (bits - 1)
    return {
        "weight": (layer.codes - half).to(torch.int8),
        "weight_scale": layer.scales,
        "weight_zero_point": (layer.zeros - half).to(torch.int8),
    }


WRITERS: dict[str, Callable[[Layer, int], dict[str, torch.Tensor]]] = {
    "gptq": gptq,
    "gptq_v2": gptq_v2,
    "gemm": awq,
    "pack-quantized": pack_quantized,
    "int-quantized": int_quantized,
}


def config(layout: str, bits: int, group_size: int, symmetric: bool) -> dict:
    """Return the quantization_config that the library of a layout writes."""
    if layout in ("gptq", "gptq_v2"):
        named = {"bits": bits, "group_size": group_size, "sym": symmetric, "desc_act": False}
        return {"quant_method": "gptq", "checkpoint_format": layout, **named}
    if layout == "gemm":
        named = {"bits": bits, "group_size": group_size, "zero_point": not symmetric}
        return {"quant_method": "awq", "version": layout, "modules_to_not_convert": None, **named}
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "dynamic": False, "actorder": None}
    weights |= {"strategy": "channel" if group_size == -1 else "group"}
    weights |= {"group_size": None if group_size == -1 else group_size}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    named = {"format": layout, "config_groups": {"group_0": group}, "ignore": ["lm_head"]}
    return {"quant_method": "compressed-tensors", "quantization_status": "compressed", **named}


def rewrite(base: Path, layout: str, bits: int, group_size: int, symmetric: bool) -> dict[str, torch.Tensor]:
    """Give the linears of a plain checkpoint random integers in a layout; return what they are worth."""
    tensors, worth = load_file(base / "model.safetensors"), {}
    written = {}
    for seed, (name, tensor) in enumerate(sorted(tensors.items())):
        if ".layers." not in name or tensor.dim() != 2:
            written[name] = tensor.half()
            continue
        layer = random_layer(*tensor.shape, bits, group_size, symmetric, seed)
        worth[name] = layer.weight
        module = name.removesuffix(".weight")
        written |= {f"{module}.{key}": value for key, value in WRITERS[layout](layer, bits).items()}
        if symmetric:
            written.pop(f"{module}.weight_zero_point", None)
    save_file({name: tensor.contiguous() for name, tensor in written.items()}, base / "model.safetensors")
    about = files.read_json(base / "config.json")
    about |= {"quantization_config": config(layout, bits, group_size, symmetric), "torch_dtype": "float16"}
    files.write_json(base / "config.json", about)
    return worth
