"""Quantized linears as onnxruntime-genai's model builder takes them, where its own loader does not know their names."""

from pathlib import Path
from typing import Any

import torch
from olive.common.quant.nn import QuantLinear

from press.model import checkpoints


def load_modules(checkpoint: str, in_floats: tuple[str, ...] = ()) -> torch.nn.Module:
    """Load a checkpoint as transformers' own modules, with quantized linears in the builder's form.

    :param in_floats: last parts of the names of linears that the builder takes in floats alone
    """
    model = checkpoints.load(Path(checkpoint))
    for name, module in list(model.named_modules()):
        if isinstance(module, QuantLinear):
            plain = name.rpartition(".")[2] in in_floats
            model.set_submodule(name, checkpoints.dequantized(module) if plain else packed(module))
    return model


def packed(linear: QuantLinear) -> torch.nn.Module:
    """Return a quantized linear of Olive's as the builder's own loader has it: of MatMulNBits' shapes."""
    size = linear.quantizer.group_size
    return _module(
        bits=linear.quantizer.bits,
        group_size=size,
        in_features=linear.cols,
        out_features=linear.rows,
        g_idx=None,
        qweight=linear.qweight.reshape(linear.rows, linear.cols // size, -1),
        scales=linear.scales.flatten(),
        qzeros=None if linear.qzeros is None else linear.qzeros.flatten(),
        bias=linear.bias,
    )


def halves(linear: Any) -> list[torch.nn.Module]:
    """Return the first and the last half of the rows of what `packed` gave."""
    same = {name: getattr(linear, name) for name in ("bits", "group_size", "in_features", "g_idx")}
    rows = {name: getattr(linear, name) for name in ("qweight", "scales", "qzeros", "bias")}
    split = {name: (None, None) if value is None else value.chunk(2) for name, value in rows.items()}
    return [
        _module(**same, out_features=linear.out_features // 2, **{name: parts[half] for name, parts in split.items()})
        for half in (0, 1)
    ]


def stacked(experts: Any) -> torch.nn.Module:
    """Return a layer's experts, whose linears are what `packed` gave, in the form that the operator QMoE takes.

    Rows of gate and up take turns.
    """

    def rows(linear: Any, name: str) -> torch.Tensor:
        return getattr(linear, name).reshape(linear.out_features, -1)

    def tensors(name: str) -> dict[str, torch.Tensor | None]:
        field = {"qzeros": "zero_points"}.get(name, name)
        if getattr(experts[0].w2, name) is None:
            return {f"gate_up_{field}": None, f"down_{field}": None}
        both = [torch.stack([rows(each.w1, name), rows(each.w3, name)], dim=1).flatten(0, 1) for each in experts]
        return {
            f"gate_up_{field}": torch.stack(both),
            f"down_{field}": torch.stack([rows(each.w2, name) for each in experts]),
        }

    return _module(
        quant_type="int",
        block_size=experts[0].w2.group_size,
        weights_prepacked=None,
        scale_dtype=None,
        scales_raw=False,
        gate_up_global_scales=None,
        down_global_scales=None,
        **tensors("qweight"),
        **tensors("scales"),
        **tensors("qzeros"),
    )


def _module(**fields: Any) -> torch.nn.Module:
    module = torch.nn.Module()
    for name, value in fields.items():
        setattr(module, name, value)
    return module
