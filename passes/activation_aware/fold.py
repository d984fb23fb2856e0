"""A fold: linears that read one input, and the module that makes it, which undoes what they are scaled by.

Scaling the input channels of linears by s is undone in the module that makes their input: a norm's weight, or
the rows of v_proj and up_proj.
"""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import nn


@dataclass
class Norm:
    """A norm before the linears. Its gain is its weight plus `offset`, which is 1 for gemma's norms."""

    module: nn.Module
    offset: float = field(init=False)

    def __post_init__(self) -> None:
        self.offset = _gain_offset(self.module)

    @property
    def channels(self) -> int:
        return len(_weight(self.module))

    def divide(self, scales: torch.Tensor, weights: dict[nn.Module, torch.Tensor]) -> torch.Tensor:
        """Divide the gain by scales, and return by what it was divided after rounding to its stored type."""
        weight = _weight(self.module)
        gain = weight.float() + self.offset
        weight.data = (gain / scales - self.offset).to(weight.dtype)
        bias = getattr(self.module, "bias", None)
        if bias is not None:
            bias.data = (bias.float() / scales).to(weight.dtype)
        divided = weight.float() + self.offset
        return torch.where((gain == 0) | (divided == 0), scales, gain / divided)


@dataclass
class Rows:
    """The output rows of a linear, from `start` to its end."""

    module: nn.Linear
    start: int

    @property
    def channels(self) -> int:
        return self.module.out_features - self.start

    def divide(self, scales: torch.Tensor, weights: dict[nn.Module, torch.Tensor]) -> torch.Tensor:
        """Divide the rows, in their fp32 form, and the bias by scales; return the scales."""
        weights[self.module][self.start :] /= scales[:, None]
        bias = self.module.bias
        if bias is not None:
            bias.data[self.start :] = (bias[self.start :].float() / scales).to(bias.dtype)
        return scales


@dataclass
class Fixed:
    """What cannot undo a scaling: its channels stay as they are, all by one and the same scale, which is 1."""

    channels: int = 1

    def divide(self, scales: torch.Tensor, weights: dict[nn.Module, torch.Tensor]) -> torch.Tensor:
        """Leave everything as it is."""
        return torch.ones_like(scales)


@dataclass
class Fold:
    """Linears that read one input, and what makes it.

    :param linears: the linears by their names in the layer
    :param fused: how many projections the linears hold: 3 for q, k and v, apart or in one
    :param maker: what makes the input
    :param head_size: width of the heads that are repeated between the maker and the linears, if any are
    """

    linears: dict[str, nn.Linear]
    fused: int
    maker: Norm | Rows | Fixed
    head_size: int = 1

    @property
    def width(self) -> int:
        return next(iter(self.linears.values())).in_features

    @property
    def repeats(self) -> int:
        """How often each of the maker's channels appears in the input (grouped-query attention)."""
        return self.width // self.maker.channels

    def shared(self, values: torch.Tensor) -> torch.Tensor:
        """Average what belongs to the input's channels, (width,), over those that the maker makes at once."""
        return values.reshape(-1, self.repeats, self.head_size).mean(1).reshape(-1)

    def repeated(self, scales: torch.Tensor) -> torch.Tensor:
        """Repeat what belongs to the maker's channels, (..., channels), for the input's."""
        heads = scales.reshape(*scales.shape[:-1], -1, 1, self.head_size)
        return heads.expand(*scales.shape[:-1], -1, self.repeats, -1).reshape(*scales.shape[:-1], -1)

    def apply(self, scales: torch.Tensor, weights: dict[nn.Module, torch.Tensor]) -> torch.Tensor:
        """Scale the linears' input channels and undo it in the maker.

        :param scales: fp32 of shape (maker's channels,)
        :param weights: the layer's linears in fp32, changed in place
        :return: the scales of the input's channels, fp32 of shape (width,)
        """
        applied = self.repeated(self.maker.divide(scales, weights))
        for linear in self.linears.values():
            weights[linear] *= applied
        return applied


def _weight(norm: nn.Module) -> nn.Parameter:
    return cast(nn.Parameter, norm.weight)


@torch.no_grad()
def _gain_offset(norm: nn.Module) -> float:
    """Return what a norm adds to its weight: its output for a weight of zeros, relative to that for ones."""
    parameter = _weight(norm)
    weight = parameter.data
    probe = torch.linspace(-1, 1, len(weight), device=weight.device, dtype=weight.dtype)
    bias = getattr(norm, "bias", None)
    shift = 0 if bias is None else bias
    try:
        parameter.data = torch.zeros_like(weight)
        zeros = (norm(probe[None]) - shift).float().norm()
        parameter.data = torch.ones_like(weight)
        ones = (norm(probe[None]) - shift).float().norm()
    finally:
        parameter.data = weight
    return float(torch.round(zeros / (ones - zeros)))
