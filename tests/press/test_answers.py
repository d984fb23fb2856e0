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


def test_the_packing_schema_takes_a_list_and_refuses_an_entry_twice():
    schema = settings.load(Path(__file__).parents[2] / "params.yaml").adapter("packing").response_schema
    others = {"days": 2, "weather": "hot", "gear": ["1 fan", "1 map"], "documents": ["passport"]}

    def complaint(*clothes: str) -> str | None:
        return answers.complaint(json.dumps({**others, "clothes": clothes}), schema)

    assert complaint("1 hat", "2 shirts", "3 socks") is None
    assert "has non-unique elements" in complaint("1 hat", "2 shirts", "1 hat")
    assert "$.clothes[2]: 'socks' does not match" in complaint("1 hat", "2 shirts", "socks")
