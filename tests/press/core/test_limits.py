"""What never ends is ended, and what ends in time is left alone."""

import json
import re

import pytest

from press.core import limits


def forever() -> None:
    while True:
        json.loads("[" + "1, " * 5000 + "1]", parse_int=str)


def test_what_never_ends_is_ended():
    with pytest.raises(limits.LateError, match=r"^it takes more than 0\.05 s$"), limits.processor_time(0.05):
        forever()


def test_a_search_for_a_pattern_is_ended_too():
    with pytest.raises(limits.LateError), limits.processor_time(0.05, "re"):
        re.search("^(a+)+$", "a" * 60 + "b")


def test_code_that_may_not_be_ended_is_left_alone():
    ended = False
    with limits.processor_time(0.01, "json"):
        for _ in range(2_000_000):
            ended = not ended
    with pytest.raises(limits.LateError), limits.processor_time(0.01, "json"):
        forever()


def test_what_ends_in_time_leaves_nothing_behind():
    with limits.processor_time(0.01):
        pass
    assert sum(range(3_000_000)) == 4499998500000
