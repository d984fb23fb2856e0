"""The integer grid that weights are rounded to, group by group, as Olive's checkpoints store it."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Grid:
    """Unsigned integers of `bits` bits, with a scale and a zero point for each group of `group_size` weights.

    A weight is worth (code - zero point) · scale. Scales are rounded to the type they are stored in before the
    zero points and the codes are computed from them, so that rounding them later changes nothing.

    :param dtype: the type that scales are stored in
    """

    bits: int
    group_size: int
    symmetric: bool
    dtype: torch.dtype

    @property
    def levels(self) -> int:
        """The largest code."""
        return 2**self.bits - 1

    def groups(self, weight: torch.Tensor) -> torch.Tensor:
        """View (..., width) as (..., groups, group size)."""
        return weight.unflatten(-1, (-1, self.group_size))

    def parameters(self, groups: torch.Tensor, shrink: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scales and zero points that cover each group's range, shrunk towards zero.

        :param groups: fp32 of shape (..., groups, group size)
        :return: two fp32 tensors of shape (..., groups); the zero points are whole numbers
        """
        low = groups.amin(-1).clamp_(max=0).mul_(shrink)
        high = groups.amax(-1).clamp_(min=0).mul_(shrink)
        if self.symmetric:
            high = torch.maximum(high, -low)
            low = -high
        scales = ((high - low) / self.levels).to(self.dtype)
        scales = torch.where(scales == 0, torch.full_like(scales, 2 / self.levels), scales).to(groups.dtype)
        if self.symmetric:
            return scales, torch.full_like(scales, (self.levels + 1) // 2)
        return scales, torch.round(-low / scales).clamp_(0, self.levels)

    def codes(self, groups: torch.Tensor, scales: torch.Tensor, zero_points: torch.Tensor) -> torch.Tensor:
        """Round to the nearest codes, as whole fp32 numbers of the groups' shape."""
        return groups.div(scales[..., None]).add_(zero_points[..., None]).round_().clamp_(0, self.levels)

    def values(self, codes: torch.Tensor, scales: torch.Tensor, zero_points: torch.Tensor) -> torch.Tensor:
        """Return what codes are worth, in fp32 and the codes' shape."""
        return codes.sub(zero_points[..., None]).mul_(scales[..., None])

    def rounded(self, groups: torch.Tensor) -> torch.Tensor:
        """Return each group rounded to its own grid."""
        parameters = self.parameters(groups)
        return self.values(self.codes(groups, *parameters), *parameters)
