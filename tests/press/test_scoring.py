"""Losses are those that PyTorch computes, of the completion's tokens only."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from press import scoring
from press.examples import Example

VOCABULARY = 50


def example(ids: list[int], prompt_tokens: int) -> Example:
    return Example(prompt="", completion="", input_ids=ids, prompt_tokens=prompt_tokens)


@given(st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=12), st.data())
def test_completion_losses_are_pytorch_s_cross_entropy(ids, data):
    prompt_tokens = data.draw(st.integers(0, len(ids) - 1))
    generator = torch.Generator().manual_seed(len(ids))
    logits = 20 * torch.randn(len(ids), VOCABULARY, generator=generator)
    first = max(prompt_tokens, 1)
    expected = torch.nn.functional.cross_entropy(logits[first - 1 : -1], torch.tensor(ids[first:]), reduction="none")
    actual = scoring.completion_losses(logits.numpy(), example(ids, prompt_tokens))
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("value", [0, 1e4, -1e4])
def test_uniform_logits_score_the_logarithm_of_the_vocabulary(value):
    logits = np.full((4, VOCABULARY), value, np.float32)
    score = scoring.score([scoring.completion_losses(logits, example([1, 2, 3, 4], 2))])
    assert score == {"loss": round(math.log(VOCABULARY), 6), "perplexity": pytest.approx(VOCABULARY, rel=1e-5)}


def test_the_score_is_the_mean_over_tokens_and_not_over_examples():
    assert scoring.score([np.array([1.0]), np.array([2.0, 3.0, 4.0])])["loss"] == 2.5


def test_a_hopeless_model_has_a_finite_perplexity():
    assert math.isfinite(scoring.score([np.array([1e6])])["perplexity"])


def test_a_batch_of_different_lengths_scores_as_each_example_alone(tiny_base: Path):
    model = AutoModelForCausalLM.from_pretrained(tiny_base).eval()
    some = [example(list(range(40, 43 + 7 * index)), 1 + index) for index in range(scoring.BATCH + 2)]

    def alone(ids: list[int]) -> np.ndarray:
        with torch.inference_mode():
            return model(input_ids=torch.tensor([ids])).logits[0].numpy()

    batched, single = scoring.torch_losses(model, some), scoring.runtime_losses(alone, some)
    assert [len(losses) for losses in batched] == [len(each["input_ids"]) - each["prompt_tokens"] for each in some]
    np.testing.assert_allclose(np.concatenate(batched), np.concatenate(single), atol=1e-4)
