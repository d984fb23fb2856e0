"""Calibration rows are chosen, layers are called as the model calls them, and moments are those of the tokens."""

import pytest
import torch
from architectures import ARCHITECTURES, random_model
from torch import nn

from passes.activation_aware import layers
from passes.activation_aware.calibration import LayerInputs, Moments, choose_rows, collected
from press.core.errors import UserError

pytestmark = pytest.mark.integration
CPU = torch.device("cpu")
BATCHES = torch.randint(32, 256, (5, 48), generator=torch.Generator().manual_seed(0)).split(2)


def batch(*rows: list[int], padding: int | None = None) -> dict[str, torch.Tensor]:
    ids = torch.tensor(rows)
    return {"input_ids": ids} if padding is None else {"input_ids": ids, "attention_mask": (ids != padding).long()}


def test_rows_are_cut_from_the_tokens_of_all_batches():
    rows = choose_rows([batch([1, 2, 3], [4, 5, 6]), batch([7, 8])], rows=2, row_tokens=4, seed=0)
    assert rows.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert rows.dtype == torch.int64


def test_padding_is_left_out_on_either_side():
    rows = choose_rows([batch([0, 1, 2], [3, 0, 0], padding=0), batch([4, 0], padding=0)], 2, 2, seed=0)
    assert rows.tolist() == [[1, 2], [3, 4]]


def test_the_seed_chooses_rows_and_keeps_their_order():
    table = torch.arange(400).reshape(100, 4)
    batches = [{"input_ids": table}]
    chosen = [choose_rows(batches, 10, 4, seed) for seed in (0, 0, 1)]
    assert torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[0], chosen[2])
    for rows in chosen:
        assert rows.shape == (10, 4)
        assert torch.equal(rows, rows.sort(0).values)
        assert torch.equal(rows, table[rows[:, 0] // 4])
    assert torch.equal(choose_rows(batches, 100, 4, seed=0), table)


@pytest.mark.parametrize(
    ("batches", "tokens"), [([], 0), ([batch([0, 0], padding=0)], 0), ([batch([1, 2, 3], [4, 5, 6]), batch([7])], 7)]
)
def test_too_few_tokens_are_refused_with_the_figures(batches, tokens):
    with pytest.raises(UserError, match=rf"has {tokens} tokens, but 2 rows of 4 need 8: add data, or lower rows or"):
        choose_rows(batches, rows=2, row_tokens=4, seed=0)


def test_inputs_that_no_token_had_are_all_alike():
    moments = Moments(3, CPU)
    assert torch.equal(moments.gram, torch.eye(3))
    assert torch.equal(moments.magnitude, torch.ones(3))


def last_norm(model: nn.Module) -> nn.Module:
    """The norm behind the layers, by the names that architectures give it."""
    names = ("norm", "embedding_norm", "final_layernorm")
    return next(module for name in names if (module := getattr(model.model, name, None)) is not None)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_are_called_as_the_model_calls_them(name):
    model = random_model(name)
    inputs = LayerInputs.record(model, model.model.layers, BATCHES, CPU)
    for index, layer in enumerate(model.model.layers):
        inputs.advance(layer, index)
    for ids, states in zip(BATCHES, inputs.hidden, strict=True):
        assert torch.equal(last_norm(model)(states), model.model(ids).last_hidden_state)


def test_recording_leaves_the_model_as_it_was():
    model = random_model("llama")
    expected = model(BATCHES[0]).logits
    LayerInputs.record(model, model.model.layers, BATCHES, CPU)
    assert torch.equal(model(BATCHES[0]).logits, expected)
    with pytest.raises(IndexError):
        LayerInputs.record(model, model.model.layers, [torch.tensor([[10**6]])], CPU)
    assert torch.equal(model(BATCHES[0]).logits, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_moments_are_those_of_all_tokens_whatever_the_batches(dtype):
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(*shape, 16, generator=generator).to(dtype) for shape in [(2, 7), (1, 5), (3,)]]
    moments = Moments(16, CPU)
    for inputs in batches:
        moments.add(inputs)
    tokens = torch.cat([inputs.flatten(0, -2) for inputs in batches]).double()
    assert moments.tokens == len(tokens) == 22
    # Sums of 22 products in fp32.
    torch.testing.assert_close(moments.gram.double(), tokens.T @ tokens / 22, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(moments.magnitude.double(), tokens.abs().mean(0), rtol=1e-5, atol=1e-6)
    assert moments.gram.dtype == moments.magnitude.dtype == torch.float32


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_collected_is_what_every_linear_of_a_fold_reads(architecture):
    model = random_model(architecture)
    layer = model.model.layers[0]
    inputs = LayerInputs.record(model, model.model.layers, BATCHES, CPU)
    groups = layers.folds(layer, "layer")
    read = {linear: [] for group in groups for linear in group.linears.values()}
    handles = [
        linear.register_forward_pre_hook(lambda module, values: read[module].append(values[0])) for linear in read
    ]
    with collected(groups, CPU) as moments:
        inputs.advance(layer, 0)
    for handle in handles:
        handle.remove()
    for group, moment in zip(groups, moments, strict=True):
        for name, linear in group.linears.items():
            tokens = torch.cat([states.flatten(0, -2) for states in read[linear]])
            # An expert reads the tokens that are routed to it.
            assert moment.tokens == len(tokens) <= 5 * 48
            assert len(tokens) == 5 * 48 or "experts" in name
            torch.testing.assert_close(moment.magnitude, tokens.abs().mean(0))


def test_nothing_is_collected_after_a_failure():
    model = random_model("llama")
    groups = layers.folds(model.model.layers[0], "layer")
    with pytest.raises(RuntimeError), collected(groups, CPU) as moments:
        raise RuntimeError
    model(BATCHES[0])
    assert [moment.tokens for moment in moments] == [0, 0, 0, 0]
