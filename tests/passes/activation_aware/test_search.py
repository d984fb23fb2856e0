"""The searches find what a plain loop over candidates, groups and tokens finds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from olive.common.quant.utils import WeightQuantizer

from passes.activation_aware import search
from passes.activation_aware.grid import Grid

pytestmark = pytest.mark.integration
GROUP = 16
WIDTH = 48


def random_case(seed: int, tokens: int = 40, rows: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return weights, correlated inputs of channels of very different size, and their Gram matrix."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, WIDTH, generator=generator)
    mixing = torch.randn(WIDTH, WIDTH, generator=generator) + 2 * torch.eye(WIDTH)
    inputs = torch.randn(tokens, WIDTH, generator=generator) @ mixing
    inputs *= torch.exp(torch.randn(WIDTH, generator=generator))
    return weight, inputs, inputs.T @ inputs / tokens


def direct_loss(error: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return the mean over tokens of the squared error of the outputs, in fp64."""
    return (inputs.double() @ error.double().T).square().sum(-1).mean()


def grid(bits: int = 4, symmetric: bool = False) -> Grid:
    return Grid(bits, GROUP, symmetric, torch.float32)


@given(st.integers(0, 2**32), st.integers(1, 100), st.integers(1, 20))
def test_the_gram_loss_is_the_direct_loss_on_the_tokens(seed, tokens, rows):
    error, inputs, gram = random_case(seed, tokens, rows)
    # Sums of fp32, to 2^-23 of each term, which may be far larger than the sum.
    terms = search.gram_loss(error.abs(), gram.abs()).item()
    assert search.gram_loss(error, gram).item() == pytest.approx(direct_loss(error, inputs).item(), abs=1e-6 * terms)


def test_errors_are_judged_one_by_one_where_there_are_several():
    weight, _, gram = random_case(0)
    errors = torch.stack([weight, 2 * weight])
    torch.testing.assert_close(search.gram_loss(errors, gram), search.gram_loss(weight, gram) * torch.tensor([1, 4]))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_loss_of_each_candidate_is_that_of_a_plain_loop(bits, symmetric):
    (first, inputs, gram), (second, _, _) = random_case(1), random_case(2, rows=5)
    scales = torch.exp(torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(3)))
    losses = search.scale_losses([first, second], [grid(bits, symmetric)] * 2, gram, scales)
    quantizer = WeightQuantizer(bits, symmetric, GROUP)
    for candidate, loss in zip(scales, losses, strict=True):
        expected = 0.0
        for weight in (first, second):
            rounded = quantizer.fake_quantize(weight * candidate)
            for token in inputs:
                expected += ((rounded @ (token / candidate) - weight @ token) ** 2).sum().item() / len(inputs)
        assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_linears_may_have_grids_of_their_own():
    weight, _, gram = random_case(0)
    ones = torch.ones(1, WIDTH)
    both = search.scale_losses([weight, weight], [grid(4), grid(8)], gram, ones)
    apart = [search.scale_losses([weight], [grid(bits)], gram, ones) for bits in (4, 8)]
    torch.testing.assert_close(both, apart[0] + apart[1])
    assert apart[1] < apart[0] / 100


def test_the_magnitude_of_a_channels_weights_is_relative_to_their_groups():
    weights = [random_case(0)[0], 100 * random_case(1, rows=3)[0]]
    weights[0][2, :GROUP] = 0
    expected = torch.zeros(WIDTH)
    for weight in weights:
        for row in weight:
            for start in range(0, WIDTH, GROUP):
                group = row[start : start + GROUP].abs()
                expected[start : start + GROUP] += group / (group.max() + 1e-6) / 11
    torch.testing.assert_close(search.weight_magnitude(weights, [grid()] * 2), expected)


def test_candidates_are_no_scales_and_exponents_from_zero_to_one():
    activations, weights = torch.rand(2, WIDTH, generator=torch.Generator().manual_seed(0)) + 0.1
    scales = search.candidate_scales(activations, weights, 22)
    assert scales.shape == (22, WIDTH)
    assert torch.equal(scales[0], torch.ones(WIDTH))
    for row, exponent in ((1, 0), (11, 0.5), (21, 1)):
        ratio = scales[row] / (activations**exponent / weights ** (1 - exponent))
        torch.testing.assert_close(ratio, ratio.mean().expand(WIDTH), rtol=2e-3, atol=0)
        assert (scales[row].max() * scales[row].min()).item() == pytest.approx(1, rel=1e-5)


@given(
    st.lists(st.sampled_from([0.0, 1e-30, 1e-6, 1.0, 1e5]), min_size=4, max_size=4),
    st.lists(st.sampled_from([0.0, 1e-30, 1e-6, 0.5, 1.0]), min_size=4, max_size=4),
    st.integers(3, 30),
)
def test_candidates_are_finite_and_positive_whatever_the_channels(activations, weights, points):
    scales = search.candidate_scales(torch.tensor(activations), torch.tensor(weights), points)
    assert torch.equal(scales[0], torch.ones(4))
    assert torch.isfinite(scales).all()
    assert (scales > 0).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_clipping_of_each_group_is_the_best_of_a_plain_loop(bits, symmetric):
    weight, _, gram = random_case(4)
    weight[0, 3], weight[1, :GROUP] = 30, 0
    chosen = torch.stack(search.clipped_parameters(weight, gram, grid(bits, symmetric)))
    shrunk = 0
    for row in range(len(weight)):
        for group in range(WIDTH // GROUP):
            part = slice(group * GROUP, (group + 1) * GROUP)
            options = [
                torch.stack(grid(bits, symmetric).parameters(weight[row, part], shrink)) for shrink in search.CLIPS
            ]
            losses = [block_loss(weight[row, part], *option, gram[part, part], bits) for option in options]
            loss = block_loss(weight[row, part], *chosen[:, row, group], gram[part, part], bits)
            assert any(torch.equal(chosen[:, row, group], option) for option in options)
            assert loss <= losses[0]
            assert loss == pytest.approx(min(losses), rel=1e-4)
            shrunk += loss < losses[0]
    assert shrunk or bits == 8


def block_loss(weight: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, gram: torch.Tensor, bits: int):
    codes = (weight / scale + zero_point).round().clamp(0, 2**bits - 1)
    error = ((codes - zero_point) * scale - weight).double()
    return (error @ gram.double() @ error).item()


def test_clipping_never_costs_a_group_more_than_none():
    for seed in range(20):
        weight, _, gram = random_case(seed)
        plain, chosen = grid().parameters(grid().groups(weight)), search.clipped_parameters(weight, gram, grid())
        errors = [
            grid().values(grid().codes(grid().groups(weight), *each), *each).flatten(-2) - weight
            for each in (plain, chosen)
        ]
        for start in range(0, WIDTH, GROUP):
            part = slice(start, start + GROUP)
            before, after = ((error[:, part] @ gram[part, part] * error[:, part]).sum(-1) for error in errors)
            assert (after <= before * (1 + 1e-5)).all()
