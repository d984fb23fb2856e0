"""What is told of a token: its log-probability, and those of the likeliest ones."""

import math

import numpy as np
import pytest

from press.serve import chances

TEXTS = ["a", "ö", "\ufffd", "", "e"]


def of(logits: list[float], token: int, tops: int):
    # The position before it has other logits.
    both = np.array([[[9.0, 0, 0, 0, 0], logits]], dtype=np.float32)
    return chances.of(both, token, tops, lambda each: TEXTS[each])


def test_the_likeliest_are_told_in_their_order():
    found = of([math.log(share) for share in (0.5, 0.3, 0.15, 0.04, 0.01)], 1, 3)
    assert (found.token, found.bytes) == ("ö", [0xC3, 0xB6])
    assert math.exp(found.logprob) == pytest.approx(0.3)
    assert [each.token for each in found.top_logprobs] == ["a", "ö", "\ufffd"]
    assert [math.exp(each.logprob) for each in found.top_logprobs] == pytest.approx([0.5, 0.3, 0.15])
    assert found.top_logprobs[2].bytes is None


def test_none_are_told_unless_they_are_wanted_and_what_cannot_be_has_a_number():
    found = of([1000.0, -np.inf, 0, 0, 0], 1, 0)
    assert (found.logprob, found.top_logprobs) == (chances.LEAST, [])
