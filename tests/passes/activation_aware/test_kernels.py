"""Parity: what the kernels give on a GPU, against the plain forms on the CPU.

Both compute in fp32, sums in another order: a code or a range that is a close call may be called otherwise.
"""

import pytest
import torch

from passes.activation_aware import rounding, search
from passes.activation_aware.grid import Grid

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernels run on a GPU")

GPU = torch.device("cuda")
GROUP = 32


def random_case(rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights, among them large ones and a group of zeros, and the Gram matrix of correlated inputs."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, width, generator=generator)
    weight[:, 5] *= 8
    weight[0, :GROUP] = 0
    inputs = torch.randn(4 * width, width, generator=generator) @ torch.randn(width, width, generator=generator)
    return weight, inputs.T @ inputs / len(inputs)


def groups_loss(weight: torch.Tensor, gram: torch.Tensor, grid: Grid, scales, zero_points) -> torch.Tensor:
    groups = grid.groups(weight)
    errors = grid.values(grid.codes(groups, scales, zero_points), scales, zero_points) - groups
    losses = [
        search.gram_loss(errors[:, [index]], gram[at : at + grid.group_size, at : at + grid.group_size])
        for index, at in enumerate(range(0, weight.shape[1], grid.group_size))
    ]
    return torch.stack(losses, 1)


@pytest.mark.parametrize(("rows", "columns"), [(96, 128), (40, 96), (1, 16)])
def test_a_block_is_rounded_to_the_codes_of_the_plain_form(rows, columns):
    from passes.activation_aware import kernels

    weight, gram = random_case(rows, columns)
    grid = Grid(4, 16, False, torch.float32)
    parameters = [parameter.T.repeat_interleave(16, 0) for parameter in grid.parameters(grid.groups(weight))]
    tensors = [weight.T, 0.1 * weight.T.flip(0), rounding.unit_factor(gram, 0.1), *parameters]
    codes, errors = torch.empty(2, columns, rows)
    rounding.round_block(*tensors, grid.levels, codes, errors)
    fast_codes, fast_errors = torch.empty(2, columns, rows, device=GPU)
    kernels.round_block(*(tensor.contiguous().to(GPU) for tensor in tensors), grid.levels, fast_codes, fast_errors)
    same = fast_codes.cpu() == codes
    assert same.all(0).float().mean() >= 0.9
    torch.testing.assert_close(fast_errors.cpu()[same], errors[same], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("bits", "size", "symmetric", "dtype"),
    [
        (4, 16, False, torch.float32),
        (8, 32, False, torch.float32),
        (4, 32, True, torch.float16),
        (4, 64, False, torch.bfloat16),
        (8, 128, True, torch.bfloat16),
        (4, 256, False, torch.bfloat16),
    ],
)
def test_ranges_are_as_good_as_those_of_the_plain_form(bits, size, symmetric, dtype):
    grid = Grid(bits, size, symmetric, dtype)
    weight, gram = random_case(70, 256)
    expected = search.clipped_parameters(weight, gram, grid)
    found = [parameter.cpu() for parameter in search.clipped_parameters(weight.to(GPU), gram.to(GPU), grid)]
    assert torch.equal(found[0].to(dtype).float(), found[0])
    for parameter, other in zip(found, expected, strict=True):
        assert (parameter == other).float().mean() >= 0.9
    torch.testing.assert_close(
        groups_loss(weight, gram, grid, *found), groups_loss(weight, gram, grid, *expected), rtol=1e-3, atol=1e-6
    )


def test_the_compensated_rounding_costs_as_little_on_a_gpu():
    grid = Grid(4, GROUP, False, torch.float32)
    weight, gram = random_case(96, 288)
    parameters = grid.parameters(grid.groups(weight))
    codes = rounding.compensated_codes(weight, gram, *parameters, grid, 0.1)
    fast = rounding.compensated_codes(*(each.to(GPU) for each in (weight, gram, *parameters)), grid, 0.1).cpu()
    assert (fast == codes).all(1).float().mean() >= 0.5
    plain, other = (
        search.gram_loss(grid.values(grid.groups(each), *parameters).flatten(-2) - weight, gram)
        for each in (codes, fast)
    )
    torch.testing.assert_close(plain, other, rtol=0.02, atol=0)
