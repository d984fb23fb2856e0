"""The two hot spots of AWQ on a GPU as Triton kernels; their plain forms are in rounding.py and search.py."""

import torch
import triton
import triton.language as tl

from passes.activation_aware.grid import Grid

ROUND_ROWS = 16
CLIP_ROWS = 64
CLIP_SIZES = (16, 32, 64, 128)  # a block of the Gram matrix has to fit into shared memory

DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def _nearest(value):
    # To the nearest whole number, ties to even, as torch.round: what is rounded here is far below 2^22.
    return value + 12582912.0 - 12582912.0


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
        code = _nearest(tl.div_rn(target, scale) + zero_point)
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
    """Round a block of columns, as rounding.round_block does; all but the factor are contiguous."""
    columns, rows = weight.shape
    _round_block[(triton.cdiv(rows, ROUND_ROWS),)](
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
        ROWS=ROUND_ROWS,
        num_warps=4,
    )


@triton.jit
def _clip(
    weight,
    gram,
    shrinks,
    scales,
    zero_points,
    rows,
    width,
    levels,
    STEPS: tl.constexpr,  # noqa: N803
    SIZE: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    SYMMETRIC: tl.constexpr,  # noqa: N803
    DTYPE: tl.constexpr,  # noqa: N803
):
    group = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = group * SIZE + tl.arange(0, SIZE)
    inside = row < rows
    values = tl.load(weight + row[:, None] * width + column[None, :], mask=inside[:, None], other=0.0)
    block = tl.load(gram + column[:, None] * width + column[None, :])
    low = tl.minimum(tl.min(values, axis=1), 0.0)
    high = tl.maximum(tl.max(values, axis=1), 0.0)
    if SYMMETRIC:
        high = tl.maximum(high, -low)
        low = -high
    best = tl.full((ROWS,), float("inf"), tl.float32)
    best_scale = tl.zeros((ROWS,), tl.float32)
    best_zero_point = tl.zeros((ROWS,), tl.float32)
    for step in range(STEPS):
        shrink = tl.load(shrinks + step)
        scale = tl.div_rn(high * shrink - low * shrink, levels).to(DTYPE).to(tl.float32)
        scale = tl.where(scale == 0.0, (tl.zeros((ROWS,), tl.float32) + 2.0 / levels).to(DTYPE).to(tl.float32), scale)
        if SYMMETRIC:
            zero_point = tl.zeros((ROWS,), tl.float32) + (levels + 1.0) / 2.0
        else:
            zero_point = tl.minimum(tl.maximum(_nearest(tl.div_rn(-low * shrink, scale)), 0.0), levels)
        code = _nearest(tl.div_rn(values, tl.broadcast_to(scale[:, None], (ROWS, SIZE))) + zero_point[:, None])
        code = tl.minimum(tl.maximum(code, 0.0), levels)
        error = (code - zero_point[:, None]) * scale[:, None] - values
        loss = tl.sum(tl.dot(error, block, input_precision="tf32x3") * error, axis=1)
        better = loss < best
        best = tl.where(better, loss, best)
        best_scale = tl.where(better, scale, best_scale)
        best_zero_point = tl.where(better, zero_point, best_zero_point)
    here = row * (width // SIZE) + group
    tl.store(scales + here, best_scale, mask=inside)
    tl.store(zero_points + here, best_zero_point, mask=inside)


def clip(
    weight: torch.Tensor, gram: torch.Tensor, grid: Grid, shrinks: tuple[float, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Search for each group's range, as search.clip does."""
    rows, width = weight.shape
    scales = torch.empty(rows, width // grid.group_size, device=weight.device)
    zero_points = torch.empty_like(scales)
    _clip[(triton.cdiv(rows, CLIP_ROWS), width // grid.group_size)](
        weight.contiguous(),
        gram.contiguous(),
        torch.tensor(shrinks, device=weight.device),
        scales,
        zero_points,
        rows,
        width,
        float(grid.levels),
        STEPS=len(shrinks),
        SIZE=grid.group_size,
        ROWS=CLIP_ROWS,
        SYMMETRIC=grid.symmetric,
        DTYPE=DTYPES[grid.dtype],
        num_warps=8,
    )
    return scales, zero_points
