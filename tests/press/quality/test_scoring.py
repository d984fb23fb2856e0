"""Losses are those that PyTorch computes, of the completion's tokens only; distances are from the reference."""

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from press.data.examples import Example
from press.quality import scoring

VOCABULARY = 50


def example(ids: list[int], prompt_tokens: int) -> Example:
    return Example(prompt="", completion="", input_ids=ids, prompt_tokens=prompt_tokens)


def scored(logits: np.ndarray, of: Example) -> np.ndarray:
    return logits[scoring.scored_rows(of)]


def random_logits(seed: int, tokens: int, spread: float = 20) -> np.ndarray:
    return (spread * np.random.default_rng(seed).normal(size=(tokens, VOCABULARY))).astype(np.float32)


@given(st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=12), st.data())
def test_losses_and_divergences_are_pytorch_s(tmp_path_factory, ids, data):
    some = [example(ids, data.draw(st.integers(0, len(ids) - 1)))]
    first = max(some[0]["prompt_tokens"], 1)
    base, other = (random_logits(seed, len(ids)) for seed in (len(ids), ids[0]))
    path = tmp_path_factory.mktemp("reference") / "text"
    own = scoring.record([scored(base, some[0])], some, path)
    assert path.stat().st_size == scoring.reference_bytes(some, VOCABULARY)
    compared = scoring.score([scored(other, some[0])], some, path)
    rows, others = (torch.from_numpy(logits[first - 1 : -1]) for logits in (base, other))
    for got, logits in ((own, rows), (compared, others)):
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[first:]), reduction="none")
        np.testing.assert_allclose(got.losses[0], expected.numpy(), atol=1e-5)
    expected = torch.nn.functional.kl_div(
        others.double().log_softmax(-1), rows.double().log_softmax(-1), log_target=True, reduction="none"
    ).sum(-1)
    np.testing.assert_allclose(compared.divergences[0], expected.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(compared.agreements[0], (rows.argmax(-1) == others.argmax(-1)).float().numpy())


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1e-3, 1, 100]))
def test_a_divergence_is_never_below_0_and_0_from_itself(seed, change):
    base = random_logits(seed, 4, spread=5)
    expected, own = map(scoring.log_softmax, (base, base + random_logits(seed + 1, 4, change)))
    assert (scoring.divergence(expected, own) >= 0).all()
    assert (scoring.divergence(expected, expected) == 0).all()


def test_the_base_is_at_0_from_itself_and_agrees_everywhere(tmp_path):
    some = [example([3, 1, 2], 1), example([3, 1, 2, 9, 8], 2)]
    logits = [scored(random_logits(seed, len(each["input_ids"])), each) for seed, each in enumerate(some)]
    base = scoring.record(logits, some, tmp_path / "text").score()
    again = scoring.score(logits, some, tmp_path / "text").score()
    assert again == {**base, "kl": 0.0, "agreement": 1.0}
    # The likeliest token becomes the unlikeliest: no position agrees.
    other = scoring.score([-rows for rows in logits], some, tmp_path / "text")
    assert other.score()["agreement"] == 0
    assert other.score()["kl"] > 1


@pytest.mark.parametrize("value", [0, 1e4, -1e4])
def test_uniform_logits_score_the_logarithm_of_the_vocabulary(tmp_path, value):
    logits = np.full((2, VOCABULARY), value, np.float32)
    score = scoring.record([logits], [example([1, 2, 3, 4], 2)], tmp_path / "text").score()
    assert score == {"loss": round(math.log(VOCABULARY), 6), "perplexity": pytest.approx(VOCABULARY, rel=1e-5)}


def test_the_score_is_the_mean_over_tokens_and_an_example_s_its_own():
    scored = scoring.Scored([np.array([1.0]), np.array([2.0, 3.0, 4.0])])
    assert scored.score()["loss"] == 2.5
    assert [scored.example(index)["loss"] for index in (0, 1)] == [1.0, 3.0]


def test_a_hopeless_model_has_a_finite_perplexity():
    assert math.isfinite(scoring.Scored([np.array([1e6])]).score()["perplexity"])


@pytest.mark.parametrize("tokens", [1, 96])
def test_a_batch_of_different_lengths_scores_as_each_example_alone(tiny_base: Path, tmp_path, tokens):
    """Position by position, as PyTorch's own logits have it, though the head sees those that are scored alone."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base).eval()
    some = [example([(40 + 7 * place * place) % 250 for place in range(3 + 7 * index)], index) for index in range(6)]

    def alone(ids: list[int]) -> np.ndarray:
        with torch.inference_mode():
            return model(input_ids=torch.tensor([ids])).logits[0].numpy()

    batched = scoring.record(scoring.torch_logits(model, some, tokens), some, tmp_path / "text")
    single = scoring.score(scoring.runtime_logits(alone, some), some, tmp_path / "text")
    for losses, each in zip(batched.losses, some, strict=True):
        first, ids = max(each["prompt_tokens"], 1), torch.tensor(each["input_ids"])
        expected = torch.nn.functional.cross_entropy(
            torch.from_numpy(alone(each["input_ids"]))[first - 1 : -1], ids[first:], reduction="none"
        )
        np.testing.assert_allclose(losses, expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(np.concatenate(batched.losses), np.concatenate(single.losses), atol=1e-4)
    assert single.score()["kl"] < 1e-6


def test_padding_is_not_masked(tiny_base: Path, monkeypatch):
    """A mask makes PyTorch's attention compute what no token sees, and repeat the keys for each group of heads."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base).eval()
    attention, masks = torch.nn.functional.scaled_dot_product_attention, []

    def spied(*tensors, attn_mask=None, **options):
        masks.append(attn_mask)
        return attention(*tensors, attn_mask=attn_mask, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spied)
    list(scoring.torch_logits(model, [example([1] * length, 1) for length in (4, 9)], 10**6))
    assert masks == [None] * model.config.num_hidden_layers


def test_the_head_computes_what_is_scored_and_all_of_it_again_afterwards(tiny_base: Path):
    model = AutoModelForCausalLM.from_pretrained(tiny_base).eval()
    seen = []
    hook = model.get_output_embeddings().register_forward_hook(lambda _, given, out: seen.append(out.shape[:2]))
    some = [example(list(range(40, 50)), 7), example(list(range(40, 60)), 4)]
    rows = list(scoring.torch_logits(model, some, 10**6))
    assert [len(each) for each in rows] == [3, 16]
    assert seen == [(1, 19)]
    hook.remove()
    assert model(input_ids=torch.arange(40, 50)[None]).logits.shape[:2] == (1, 10)


@pytest.mark.parametrize(
    ("tokens", "sizes"), [(1, [1, 1, 1, 1]), (6, [2, 1, 1]), (12, [3, 1]), (20, [4]), (10**9, [4])]
)
def test_a_batch_has_no_more_tokens_than_it_may_with_its_padding(tokens, sizes):
    some = [example([1] * length, 1) for length in (2, 3, 4, 5)]
    batches = list(scoring._batches(some, tokens))
    assert [len(batch) for batch in batches] == sizes
    assert [each for batch in batches for each in batch] == some


def test_rows_are_scored_some_at_a_time_to_the_same_figures(tmp_path, monkeypatch):
    some = [example(list(range(9)), 2), example([3, 1, 2], 1)]
    logits = [
        [scored(random_logits(seed + len(each["input_ids"]), len(each["input_ids"])), each) for each in some]
        for seed in (0, 1)
    ]

    def both(name: str) -> list[dict]:
        base = scoring.record(logits[0], some, tmp_path / name)
        return [base.score(), scoring.score(logits[1], some, tmp_path / name).score()]

    whole = both("whole")
    monkeypatch.setattr(scoring, "BLOCK", 2 * scoring.FLOAT * VOCABULARY)
    assert both("parts") == whole
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


def test_what_is_in_memory_does_not_grow_with_the_reference(tmp_path, monkeypatch):
    """A map would not be traced, and is a process's memory all the same."""
    some, logits = [example([1] * 11, 1)] * 100, np.zeros((10, 5000), np.float32)
    scoring.record([logits] * 100, some, tmp_path / "text")
    monkeypatch.setattr(np, "memmap", lambda *_, **__: pytest.fail("the reference is mapped"))
    tracemalloc.start()
    scoring.score([logits] * 100, some, tmp_path / "text")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "text").stat().st_size == 20_000_000
    assert peak < 2_000_000
