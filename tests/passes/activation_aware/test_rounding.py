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
    return codes.float()


def values_of(grid: Grid, codes: torch.Tensor, parameters: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return grid.values(grid.groups(codes), *parameters).flatten(-2)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_codes_are_those_of_gptq(bits, symmetric, width):
    weight, gram = random_case(width)
    parameters = grid(bits, symmetric).parameters(grid().groups(weight))
    codes = rounding.compensated_codes(weight, gram, *parameters, grid(bits, symmetric), DAMPING)
    expected = textbook_codes(weight, gram, *parameters, 2**bits - 1, DAMPING)
    # A target that fp32 and fp64 round to different sides of a half may change those after it in its row.
    assert (codes == expected).float().mean() >= 0.999
    plain = grid(bits, symmetric).codes(grid().groups(weight), *parameters).flatten(-2)
    assert (plain == expected).float().mean() < 0.9


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernel runs on a GPU")
@pytest.mark.parametrize("width", [128, 32])
def test_the_kernel_gives_the_codes_of_the_plain_form(width):
    from passes.activation_aware.rounding_kernel import round_block

    weight, gram = random_case(width)
    parameters = [parameter.T.repeat_interleave(GROUP, 0) for parameter in grid().parameters(grid().groups(weight))]
    owed = 0.1 * weight.T.flip(0)
    tensors = [weight.T, owed, rounding.unit_factor(gram, DAMPING), *parameters]
    results = []
    for form in (round_block, rounding.round_block_plainly):
        codes, errors = torch.empty(2, *weight.T.shape, device="cuda")
        form(*(tensor.contiguous().cuda() for tensor in tensors), grid().levels, codes, errors)
        results.append((codes, errors))
    (codes, errors), (plain_codes, plain_errors) = results
    same = codes == plain_codes
    # As on the CPU: sums in another order may fall on the other side of a half.
    assert same.float().mean() >= 0.999
    torch.testing.assert_close(errors[same], plain_errors[same], rtol=0, atol=1e-5)
