"""The compensated rounding gives GPTQ's codes, all of them on the grid, and a loss below plain rounding's."""

import pytest
import torch

from passes.activation_aware import rounding, search
from passes.activation_aware.grid import Grid

DAMPING = 0.01
GROUP = 32
# One column block, two, and two of which one is not full.
WIDTHS = [64, 256, 160]


def random_case(width: int, seed: int = 0, tokens: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights and the Gram matrix of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(96, width, generator=generator)
    mixing = torch.randn(width, width, generator=generator) / width**0.5 + torch.eye(width)
    inputs = torch.randn(tokens, width, generator=generator) @ mixing
    inputs *= torch.exp(0.5 * torch.randn(width, generator=generator))
    return weight, inputs.T @ inputs / tokens


def grid(bits: int = 4, symmetric: bool = False) -> Grid:
    return Grid(bits, GROUP, symmetric, torch.float32)


def test_inputs_that_are_all_alike_leave_each_weight_its_nearest_code():
    weight, _ = random_case(64)
    parameters = grid().parameters(grid().groups(weight))
    codes = rounding.compensated_codes(weight, torch.eye(64), *parameters, grid(), DAMPING)
    assert torch.equal(codes, grid().codes(grid().groups(weight), *parameters).flatten(-2))


def textbook_codes(weight, gram, scales, zero_points, levels: int, damping: float) -> torch.Tensor:
    """GPTQ as its paper has it: fp64, and after each column the later ones updated by Cholesky's factor of H⁻¹."""
    weight, gram = weight.double().clone(), gram.double().clone()
    order = gram.diagonal().argsort(descending=True, stable=True)
    gram.diagonal().add_(damping * gram.diagonal().mean())
    inverse = torch.linalg.cholesky(torch.linalg.inv(gram[order][:, order]), upper=True)
    codes = torch.empty_like(weight)
    for at, column in enumerate(order):
        scale, zero_point = scales[:, column // GROUP].double(), zero_points[:, column // GROUP].double()
        codes[:, column] = (weight[:, column] / scale + zero_point).round().clamp(0, levels)
        error = (weight[:, column] - (codes[:, column] - zero_point) * scale) / inverse[at, at]
        weight[:, order[at:]] -= error[:, None] * inverse[at, at:]
    return codes


def values_of(grid: Grid, codes: torch.Tensor, parameters: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return grid.values(grid.groups(codes), *parameters).flatten(-2)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_codes_are_those_of_gptq(bits, symmetric, width):
    own = grid(bits, symmetric)
    weight, gram = random_case(width)
    parameters = own.parameters(own.groups(weight))
    expected = textbook_codes(weight, gram, *parameters, own.levels, DAMPING)
    exact = [tensor.double() for tensor in (weight, gram, *parameters)]
    assert (rounding.compensated_codes(*exact, own, DAMPING) == expected).double().mean() >= 0.999
    # In fp32 a target near a half may fall on its other side, and change all those after it in its row.
    codes = rounding.compensated_codes(weight, gram, *parameters, own, DAMPING)
    assert (codes == expected).all(1).double().mean() >= 0.9
    assert (own.codes(own.groups(weight), *parameters).flatten(-2) == expected).double().mean() < 0.9


@pytest.mark.parametrize("shrink", [1.0, 0.5])
@pytest.mark.parametrize("bits", [4, 8])
def test_no_code_is_off_the_grid(bits, shrink):
    weight, gram = random_case(160)
    codes = rounding.compensated_codes(
        weight, gram, *grid(bits).parameters(grid().groups(weight), shrink), grid(bits), DAMPING
    )
    assert codes.shape == weight.shape
    assert torch.equal(codes, codes.round())
    assert codes.min() == 0
    assert codes.max() == 2**bits - 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_on_correlated_inputs_it_costs_less_than_plain_rounding(bits, symmetric, seed):
    weight, gram = random_case(64, seed)
    own = grid(bits, symmetric)
    parameters = own.parameters(own.groups(weight))
    codes = rounding.compensated_codes(weight, gram, *parameters, own, DAMPING)
    compensated = search.gram_loss(values_of(own, codes, parameters) - weight, gram)
    plain = search.gram_loss(own.rounded(own.groups(weight)).flatten(-2) - weight, gram)
    assert compensated < 0.8 * plain


def test_uncorrelated_columns_are_rounded_plainly():
    weight, gram = random_case(64)
    parameters = grid().parameters(grid().groups(weight))
    codes = rounding.compensated_codes(weight, gram.diagonal().diag(), *parameters, grid(), DAMPING)
    assert torch.equal(codes, grid().codes(grid().groups(weight), *parameters).flatten(-2))


def test_inputs_of_nothing_but_zeros_are_rounded_plainly():
    weight, _ = random_case(64)
    parameters = grid().parameters(grid().groups(weight))
    codes = rounding.compensated_codes(weight, torch.zeros(64, 64), *parameters, grid(), DAMPING)
    assert torch.equal(codes, grid().codes(grid().groups(weight), *parameters).flatten(-2))


def test_fewer_tokens_than_columns_are_enough():
    weight, gram = random_case(64, tokens=3)
    parameters = grid().parameters(grid().groups(weight))
    codes = rounding.compensated_codes(weight, gram, *parameters, grid(), DAMPING)
    compensated = search.gram_loss(values_of(grid(), codes, parameters) - weight, gram)
    assert compensated < 0.1 * search.gram_loss(grid().rounded(grid().groups(weight)).flatten(-2) - weight, gram)


def test_the_weights_and_the_gram_matrix_stay_as_they_are():
    weight, gram = random_case(64)
    before = weight.clone(), gram.clone()
    rounding.compensated_codes(weight, gram, *grid().parameters(grid().groups(weight)), grid(), DAMPING)
    assert torch.equal(weight, before[0])
    assert torch.equal(gram, before[1])


def test_the_factor_is_upper_triangular_and_makes_the_damped_gram_matrix():
    _, gram = random_case(64)
    factor = rounding.unit_factor(gram, DAMPING).double()
    assert torch.equal(factor, factor.triu())
    assert torch.equal(factor.diagonal(), torch.ones(64, dtype=torch.float64))
    damped = gram.double() + DAMPING * gram.diagonal().double().mean() * torch.eye(64, dtype=torch.float64)
    inverse = torch.linalg.inv(factor)
    squares = inverse @ damped @ inverse.T
    torch.testing.assert_close(squares, squares.diagonal().diag(), rtol=0, atol=1e-4 * squares.max().item())
