"""Answers are checked against an adapter's response schema, and for loops."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.data import answers
from press.params import settings

SCHEMA = {"type": "object", "required": ["days"], "properties": {"days": {"type": "integer", "maximum": 60}}}


def test_an_answer_that_satisfies_the_schema_has_no_complaint():
    assert answers.complaint('{"days": 3}', SCHEMA) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Take a coat.", "not JSON (Expecting value: line 1 column 1 (char 0))"),
        ('{"days": 3', "not JSON (Expecting ',' delimiter: line 1 column 11 (char 10))"),
        ('{"days": 3} and more', "not JSON (Extra data: line 1 column 13 (char 12))"),
        ("", "not JSON (Expecting value: line 1 column 1 (char 0))"),
        ("9" * 5000, "not JSON (Exceeds the limit"),
        ("[]", "breaks the response schema at $: [] is not of type 'object'"),
        ("{}", "breaks the response schema at $: 'days' is a required property"),
        ('{"days": 61}', "breaks the response schema at $.days: 61 is greater than the maximum of 60"),
        ('{"days": true}', "breaks the response schema at $.days: True is not of type 'integer'"),
    ],
)
def test_a_complaint_says_where_and_why(answer, reason):
    assert answers.complaint(answer, SCHEMA).startswith(reason)


def test_the_packing_schema_takes_items_with_counts_and_nothing_else():
    schema = settings.load(Path(__file__).parents[3] / "params.yaml").adapter("packing").response_schema
    others = {"days": 2, "weather": "hot", "gear": {"fan": 1, "map": 1}, "documents": ["passport"]}

    def complaint(**clothes: object) -> str | None:
        return answers.complaint(json.dumps({**others, "clothes": clothes}), schema)

    assert complaint(hat=1, shirts=2, socks=3) is None
    assert "does not have enough properties" in complaint(hat=1, shirts=2)
    assert "$.clothes.socks: 'many' is not of type 'integer'" in complaint(hat=1, shirts=2, socks="many")
    assert "'Socks' does not match" in complaint(hat=1, shirts=2, Socks=3)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", False),
        ("the best thing to see is the lake", False),
        ("very very very very good", False),
        ("yes " * 11, False),
        ("yes " * 12, True),
        ("First, then. " + "and the river is wide " * 3, True),
        ("and the river is wide " * 2, False),
        ("and the river is wide " * 3 + "indeed", False),
        ("one two three four five six " * 3, True),
    ],
)
def test_an_end_that_repeats_itself_is_a_loop(answer, expected):
    assert answers.loops(answer) is expected


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.integers(12, 20), st.text("xyz ", max_size=20))
def test_any_loop_is_found_after_any_start(words, rounds, start):
    assert answers.loops(start + " " + " ".join(words * rounds))
