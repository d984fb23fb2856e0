"""Rounding that makes up for itself, column by column (GPTQ, arXiv 2210.17323), on a fixed grid.

With H = R Rᵀ, R upper triangular, the loss tr(E H Eᵀ) of a weight error E is ‖E R‖², and column k of E R depends
on the columns of E up to k alone. So column k is rounded from W + Σ E R / Rₖₖ over the columns before it: the same
codes as GPTQ's, which updates the columns after it by a factor of H⁻¹, without an inverse.
"""

from types import ModuleType

import torch

from passes.activation_aware.grid import Grid

BLOCK = 128


def compensated_codes(
    weight: torch.Tensor,
    gram: torch.Tensor,
    scales: torch.Tensor,
    zero_points: torch.Tensor,
    grid: Grid,
    damping: float,
) -> torch.Tensor:
    """Round column by column, that with the largest activations first.

    :param weight: fp32 of shape (rows, width)
    :param gram: fp32 of shape (width, width)
    :param scales: fp32 of shape (rows, groups), as the zero points
    :param damping: added to the Gram matrix's diagonal, as a share of its mean
    :return: whole fp32 numbers of shape (rows, width)
    """
    columns = gram.diagonal().argsort(descending=True, stable=True)
    factor = unit_factor(gram[columns][:, columns], damping)
    # Transposed, so that a column of the weight lies in one piece.
    targets = weight.T[columns].contiguous()
    group = columns // grid.group_size
    scales, zero_points = scales.T[group].contiguous(), zero_points.T[group].contiguous()
    codes, errors = torch.empty_like(targets), torch.empty_like(targets)
    fused = kernels() if weight.is_cuda else None
    block_rounding = fused.round_block if fused else round_block
    for start in range(0, len(columns), BLOCK):
        block = slice(start, start + BLOCK)
        owed = factor[:start, block].T @ errors[:start]
        block_rounding(
            targets[block],
            owed,
            factor[block, block],
            scales[block],
            zero_points[block],
            grid.levels,
            codes[block],
            errors[block],
        )
    restored = torch.empty_like(codes)
    restored[columns] = codes
    return restored.T.contiguous()


def unit_factor(gram: torch.Tensor, damping: float) -> torch.Tensor:
    """Return R of H = R Rᵀ, upper triangular, with each column divided by its diagonal element.

    It is Cholesky's factor of H with the order of rows and columns reversed.
    """
    damped = gram.flip(0, 1)
    # Where no activation ever was, any factor will do.
    damped.diagonal().add_((damping * gram.diagonal().mean()).clamp(min=1e-30))
    factor = torch.linalg.cholesky(damped).flip(0, 1)
    return factor / factor.diagonal()


def round_block(
    weight: torch.Tensor,
    owed: torch.Tensor,
    factor: torch.Tensor,
    scales: torch.Tensor,
    zero_points: torch.Tensor,
    levels: int,
    codes: torch.Tensor,
    errors: torch.Tensor,
) -> None:
    """Round a block of columns in plain PyTorch; all but the factor are transposed, of shape (columns, rows).

    :param owed: what the columns before the block add
    :param factor: the block's part of the unit factor, of shape (columns, columns)
    :param codes: filled in
    :param errors: filled in
    """
    for at in range(len(weight)):
        target = torch.addmv(weight[at] + owed[at], errors[:at].T, factor[:at, at])
        code = target.div_(scales[at]).add_(zero_points[at]).round_().clamp_(0, levels)
        codes[at] = code
        errors[at] = weight[at] - (code - zero_points[at]) * scales[at]


def kernels() -> ModuleType | None:
    """Return the module of Triton kernels where Triton is there, as it is with PyTorch for CUDA on Linux."""
    try:
        from passes.activation_aware import kernels as module
    except ImportError:
        return None
    return module
