"""Answers are checked against an adapter's response schema."""

import json
from pathlib import Path

import pytest

from press import answers, settings

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
    schema = settings.load(Path(__file__).parents[2] / "params.yaml").adapter("packing").response_schema
    others = {"days": 2, "weather": "hot", "gear": {"fan": 1, "map": 1}, "documents": ["passport"]}

    def complaint(**clothes: object) -> str | None:
        return answers.complaint(json.dumps({**others, "clothes": clothes}), schema)

    assert complaint(hat=1, shirts=2, socks=3) is None
    assert "does not have enough properties" in complaint(hat=1, shirts=2)
    assert "$.clothes.socks: 'many' is not of type 'integer'" in complaint(hat=1, shirts=2, socks="many")
    assert "'Socks' does not match" in complaint(hat=1, shirts=2, Socks=3)
