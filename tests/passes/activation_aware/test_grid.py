"""The grid holds what it gives, is no coarser than it has to be, and is Olive's own."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from olive.common.quant.utils import WeightQuantizer
from torch import nn

from passes.activation_aware import quantization
from passes.activation_aware.grid import Grid

pytestmark = pytest.mark.integration
SIZE = 16
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
grids = st.builds(Grid, st.sampled_from([4, 8]), st.just(SIZE), st.booleans(), st.sampled_from(DTYPES))
# Beyond what a checkpoint's weights are worth, and down to what fp16 does not hold.
weights = st.floats(-1000, 1000, width=32, allow_subnormal=False) | st.sampled_from(
    [0.0, -0.0, 1e-3, -1e-3, 1e-8, -1e-8]
)
groups = st.lists(weights, min_size=SIZE, max_size=SIZE) | weights.map(lambda weight: [weight] * SIZE)
tensors = st.lists(groups, min_size=1, max_size=3).map(torch.tensor)


@given(grids, tensors, st.sampled_from([1.0, 0.75, 0.5]))
def test_codes_and_zero_points_are_whole_numbers_that_the_bits_hold(grid, tensor, shrink):
    scales, zero_points = grid.parameters(tensor, shrink)
    for whole in (zero_points, grid.codes(tensor, scales, zero_points)):
        assert torch.equal(whole, whole.round())
        assert whole.min() >= 0
        assert whole.max() <= grid.levels == 2**grid.bits - 1


@given(grids, tensors, st.sampled_from([1.0, 0.75, 0.5]))
def test_scales_are_positive_and_the_stored_type_holds_them(grid, tensor, shrink):
    scales, _ = grid.parameters(tensor, shrink)
    assert (scales > 0).all()
    assert torch.equal(scales.to(grid.dtype).float(), scales)


@given(grids, tensors)
def test_rounding_what_is_on_the_grid_gives_itself_back(grid, tensor):
    parameters = grid.parameters(tensor)
    codes = grid.codes(tensor, *parameters)
    values = grid.values(codes, *parameters)
    assert torch.equal(grid.codes(values, *parameters), codes)
    assert torch.equal(grid.values(grid.codes(values, *parameters), *parameters), values)


@given(grids, tensors, st.sampled_from([1.0, 0.75, 0.5]))
def test_inside_the_range_rounding_costs_half_a_step_at_most(grid, tensor, shrink):
    scales, zero_points = (parameter[..., None] for parameter in grid.parameters(tensor, shrink))
    low, high = -zero_points * scales, (grid.levels - zero_points) * scales
    error = grid.values(grid.codes(tensor, scales[..., 0], zero_points[..., 0]), scales[..., 0], zero_points[..., 0])
    error = (error - tensor).abs()
    # Half a step in exact arithmetic; code and value are computed in fp32, to 2^-23 of up to 255 steps.
    assert (error <= scales * (0.5 + 255 * 2**-22))[(low <= tensor) & (tensor <= high)].all()


@given(grids, tensors)
def test_the_range_reaches_to_a_step_or_two_of_every_weight(grid, tensor):
    scales, _ = grid.parameters(tensor)
    assume((scales >= torch.finfo(grid.dtype).smallest_normal).all())
    # Half a step for the zero point, and one of 255 where bf16, with its 8 digits, rounds the scale down.
    assert ((grid.rounded(tensor) - tensor).abs() <= scales[..., None] * 1.51).all()


@given(grids, tensors)
def test_a_symmetric_grid_has_its_zero_in_the_middle(grid, tensor):
    _, zero_points = grid.parameters(tensor)
    if grid.symmetric:
        assert (zero_points == 2 ** (grid.bits - 1)).all()


@given(grids, st.integers(1, 3))
def test_a_group_of_zeros_stays_zero(grid, count):
    assert torch.equal(grid.rounded(torch.zeros(count, SIZE)), torch.zeros(count, SIZE))


@given(st.sampled_from([4, 8]), st.booleans(), st.integers(0, 2**32))
def test_the_grid_of_fp32_weights_is_olives(bits, symmetric, seed):
    weight = torch.randn(8, 4 * SIZE, generator=torch.Generator().manual_seed(seed))
    weight[:, ::SIZE] = -1  # where no weight is negative, Olive's symmetric grid leaves half of its range unused
    grid, olives = Grid(bits, SIZE, symmetric, torch.float32), WeightQuantizer(bits, symmetric, SIZE)
    scales, zero_points = grid.parameters(grid.groups(weight))
    expected_scales, expected_zero_points = olives.find_qparams(weight)
    assert torch.equal(scales, expected_scales)
    assert torch.equal(zero_points, expected_zero_points.float())
    codes = grid.codes(grid.groups(weight), expected_scales, zero_points).flatten(-2)
    assert torch.equal(codes, olives.quantize(weight, expected_scales, expected_zero_points).float())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_olive_reads_packed_codes_as_the_values_of_the_grid(bits, symmetric, dtype, bias):
    grid = Grid(bits, SIZE, symmetric, dtype)
    linear = nn.Linear(4 * SIZE, 24, bias=bias, dtype=dtype)
    groups = grid.groups(linear.weight.detach().float())
    groups[3] = 0
    parameters = grid.parameters(groups)
    codes = grid.codes(groups, *parameters)
    packed = quantization._quant_linear(linear, codes.flatten(-2), *parameters, grid)
    read = packed.unpack_and_dequantize(packed.qweight, packed.scales, packed.qzeros)
    assert read.dtype == dtype
    assert torch.equal(read, grid.values(codes, *parameters).flatten(-2).to(dtype))
    assert (packed.bias is None) if linear.bias is None else torch.equal(packed.bias, linear.bias)
