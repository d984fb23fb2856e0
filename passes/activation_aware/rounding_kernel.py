"""The sequential part of the compensated rounding as one kernel a block: plain PyTorch needs a thousand."""

import torch
import triton
import triton.language as tl

ROWS = 16


@triton.jit
def _round_block(
    weight,
    owed,
    factor,
    scales,
    zero_points,
    codes,
    errors,
    levels,
    columns,
    rows,
    factor_row,
    factor_column,
    BLOCK: tl.constexpr,  # noqa: N803 - Triton's convention for constants
    ROWS: tl.constexpr,  # noqa: N803
):
    column = tl.arange(0, BLOCK)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    tile = column[:, None] * rows + row[None, :]
    mask = (column[:, None] < columns) & inside[None, :]
    targets = tl.load(weight + tile, mask=mask, other=0.0) + tl.load(owed + tile, mask=mask, other=0.0)
    for at in range(columns):
        here = at * rows + row
        target = tl.sum(tl.where(column[:, None] == at, targets, 0.0), axis=0)
        scale = tl.load(scales + here, mask=inside, other=1.0)
        zero_point = tl.load(zero_points + here, mask=inside, other=0.0)
        # To nearest, ties to even, as torch.round: codes are far below 2^22.
        code = tl.fma(target / scale + zero_point, 1.0, 12582912.0) - 12582912.0
        code = tl.minimum(tl.maximum(code, 0.0), levels)
        error = tl.load(weight + here, mask=inside, other=0.0) - (code - zero_point) * scale
        tl.store(codes + here, code, mask=inside)
        tl.store(errors + here, error, mask=inside)
        ahead = tl.load(factor + at * factor_row + column * factor_column, mask=column < columns, other=0.0)
        targets += ahead[:, None] * error[None, :]


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
    """Round a block of columns on a GPU, as round_block_plainly does; all but the factor are contiguous."""
    columns, rows = weight.shape
    _round_block[(triton.cdiv(rows, ROWS),)](
        weight,
        owed,
        factor,
        scales,
        zero_points,
        codes,
        errors,
        float(levels),
        columns,
        rows,
        factor.stride(0),
        factor.stride(1),
        BLOCK=triton.next_power_of_2(columns),
        ROWS=ROWS,
        num_warps=4,
    )
