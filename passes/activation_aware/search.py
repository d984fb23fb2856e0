"""The searches of AWQ (arXiv 2306.00978) on Gram matrices: activation-aware scales and clipping.

The loss of replacing a linear's weight W by W + E, over calibration tokens X (tokens, width), is the mean of
‖E x‖² over the tokens. With the Gram matrix H = XᵀX / tokens it is tr(E H Eᵀ), whose cost does not depend on
the number of tokens.
"""

from collections.abc import Sequence

import torch

from passes.activation_aware.grid import Grid
from passes.activation_aware.rounding import kernels

CLIPS = tuple(1 - 0.05 * step for step in range(11))


def gram_loss(error: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Return tr(E H Eᵀ) for a weight error of shape (..., rows, width), summed over the rows."""
    return ((error @ gram) * error).sum((-2, -1))


def weight_magnitude(weights: Sequence[torch.Tensor], grids: Sequence[Grid]) -> torch.Tensor:
    """Return each input channel's mean |W|, relative to the largest |W| of its row's group.

    :param weights: fp32 of shapes (rows, width)
    :return: fp32 of shape (width,)
    """
    total = torch.zeros_like(weights[0][0])
    for weight, grid in zip(weights, grids, strict=True):
        groups = grid.groups(weight).abs()
        total = total + (groups / (groups.amax(-1, keepdim=True) + 1e-6)).flatten(-2).sum(0)
    return total / sum(len(weight) for weight in weights)


def candidate_scales(activations: torch.Tensor, weights: torch.Tensor, points: int) -> torch.Tensor:
    """Return the scales to try: none, and mean|X|^a / mean|W|^(1-a) for a from 0 to 1.

    :param activations: mean |X|, fp32 of shape (channels,)
    :param weights: mean |W|, fp32 of shape (channels,)
    :return: fp32 of shape (points, channels); the first row is ones
    """
    exponents = torch.linspace(0, 1, points - 1, device=activations.device)[:, None]
    scales = (activations**exponents / (weights ** (1 - exponents) + 1e-4)).clamp(min=1e-4)
    scales = scales / (scales.amax(-1, keepdim=True) * scales.amin(-1, keepdim=True)).sqrt()
    return torch.cat([torch.ones_like(scales[:1]), scales])


def scale_losses(
    weights: Sequence[torch.Tensor], grids: Sequence[Grid], gram: torch.Tensor, scales: torch.Tensor
) -> torch.Tensor:
    """Return the loss of each candidate ‖Q(W·s)s⁻¹X - WX‖², summed over the linears that read X.

    :param weights: fp32 of shapes (rows, width)
    :param gram: fp32 of shape (width, width)
    :param scales: fp32 of shape (candidates, width)
    :return: fp32 of shape (candidates,)
    """
    losses = torch.zeros(len(scales), device=scales.device)
    for weight, grid in zip(weights, grids, strict=True):
        scaled = weight * scales[:, None]
        losses += gram_loss(grid.rounded(grid.groups(scaled)).flatten(-2) / scales[:, None] - weight, gram)
    return losses


def clipped_parameters(weight: torch.Tensor, gram: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scales and zero points whose range, shrunk by 0 to 50 %, costs each group least.

    A group is judged by its own block of the Gram matrix, as if the other groups were exact.

    :param weight: fp32 of shape (rows, width)
    :param gram: fp32 of shape (width, width)
    :return: two fp32 tensors of shape (rows, groups)
    """
    fused = kernels() if weight.is_cuda else None
    if fused and grid.group_size in fused.CLIP_SIZES:
        return fused.clip(weight, gram, grid, CLIPS)
    return clip(weight, gram, grid, CLIPS)


def clip(
    weight: torch.Tensor, gram: torch.Tensor, grid: Grid, shrinks: tuple[float, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Search for each group's range, in plain PyTorch."""
    groups = grid.groups(weight)
    size = grid.group_size
    blocks = torch.stack([gram[at : at + size, at : at + size] for at in range(0, len(gram), size)])

    def judged(shrink: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the loss of each group with a shrunk range, and the range's parameters."""
        candidate = grid.parameters(groups, shrink)
        error = (grid.values(grid.codes(groups, *candidate), *candidate) - groups).transpose(0, 1)
        return ((error @ blocks) * error).sum(-1).transpose(0, 1), *candidate

    best, scales, zero_points = judged(shrinks[0])
    for shrink in shrinks[1:]:
        loss, *candidate = judged(shrink)
        better = loss < best
        best = torch.where(better, loss, best)
        scales = torch.where(better, candidate[0], scales)
        zero_points = torch.where(better, candidate[1], zero_points)
    return scales, zero_points
