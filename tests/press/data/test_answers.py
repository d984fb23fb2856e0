"""Answers are checked against an adapter's response schema, and for loops."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.data import answers, jsonl, strict_json
from press.params import settings
from press.quality import vocabulary

ROOT = Path(__file__).parents[3]
SCHEMA = {"type": "object", "required": ["days"], "properties": {"days": {"type": "integer", "maximum": 60}}}


def test_an_answer_that_satisfies_the_schema_has_no_complaint():
    assert answers.complaint('{"days": 3}', SCHEMA) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Take a coat.", "not JSON (Expecting value at column 1)"),
        ('{"days": 3', "not JSON (Expecting ',' delimiter at column 11)"),
        ('{"days": 3} and more', "not JSON (Extra data at column 13)"),
        ("", "not JSON (Expecting value at column 1)"),
        ('{"days": 3, "days": 3}', 'JSON with the name "days" twice in one object'),
        ('{"days": NaN}', "not JSON (NaN is no number)"),
        ("[]", "breaks the response schema at $: [] is not of type 'object'"),
        ("{}", "breaks the response schema at $: 'days' is a required property"),
        ('{"days": 61}', "breaks the response schema at $.days: 61 is greater than the maximum of 60"),
        ('{"days": true}', "breaks the response schema at $.days: True is not of type 'integer'"),
    ],
)
def test_a_complaint_says_where_and_why(answer, reason):
    assert answers.complaint(answer, SCHEMA).startswith(reason)


def test_the_packing_schema_takes_items_with_counts_and_nothing_else():
    schema = settings.load(ROOT / "params.yaml").adapter("packing").response_schema
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
        ("and the river is wide " * 3 + "and the ri", True),
        ("and the river is wide " * 2 + "and the ri", False),
        ("Ha" * 36, True),
        ("Ha" * 35, False),
        ("In Japan, a dokku: " + "コサイクス" * 4 + "コサイ", False),
        ("In Japan, a dokku: " + "コサイクス" * 5, True),
        # A token may end inside a character.
        ("Simply say " + "¡" * 90 + "\ufffd", True),
        ("| a | b |\n|---|---|\n| 1 | 2 |", False),
        ('"de la Republica" (bill) or "de la Republica" (bill).', False),
    ],
)
def test_an_end_that_repeats_itself_is_a_loop(answer, expected):
    assert answers.loops(answer) is expected


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.integers(12, 20), st.text("xyz ", max_size=20))
def test_any_loop_is_found_after_any_start(words, rounds, start):
    assert answers.loops(start + " " + " ".join(words * rounds))


@given(
    st.text("abc ,.\né", min_size=1, max_size=60).filter(lambda text: text.strip() == text),
    st.text(max_size=40),
    st.sampled_from([" ", ", ", "\n", ""]),
    st.data(),
)
def test_a_loop_that_was_cut_anywhere_is_found(said, start, between, data):
    one = said + between
    rounds = max(answers.ROUNDS, -(-answers.BYTES // len(" ".join(one.split()))) + 1)
    cut = data.draw(st.integers(0, len(one)))
    assert answers.loops(start + one * rounds + one[:cut])


@given(st.lists(st.integers(0, 10**6), min_size=0, max_size=60, unique=True))
def test_what_is_said_once_is_no_loop(numbers):
    assert not answers.loops(" ".join(f"stop {number}" for number in numbers))


@pytest.mark.parametrize(
    ("answer", "figures"),
    [
        ('{"mood": "good", "days": 3}', (True, True, 1.0)),
        ('{"days": 3.0, "mood": "good"}', (True, True, 1.0)),
        ('{"mood": "bad", "days": 3}', (True, False, 0.5)),
        ('{"mood": "good", "days": 61}', (False, False, 0.5)),
        ('{"mood": "good", "days": true}', (False, False, 0.5)),
        ('{"mood": "good", "days": 3, "more": 1, "and": 2}', (True, False, 0.5)),
        ('{"days": 4}', (True, False, 0.0)),
        ("[]", (False, False, 0.0)),
        ('{"mood": "good", "mood": "good", "days": 3}', (False, False, 0.0)),
        ("good", (False, False, 0.0)),
    ],
)
def test_an_answer_is_judged_by_the_schema_and_by_the_right_one(answer, figures):
    judged = answers.judge(answer, '{"mood": "good", "days": 3}', SCHEMA)
    assert tuple(judged.values()) == figures
    assert list(judged) == [figure for figure in vocabulary.JUDGED if figure != "chrf"]


def test_always_the_same_answer_is_valid_and_seldom_right():
    """As that of an adapter that learned nothing but the form."""
    judged = [answers.judge('"positive"', f'"{right}"', {"type": "string"}) for right in ("positive", "negative")]
    assert [each["valid"] for each in judged] == [True, True]
    assert [each["exact"] for each in judged] == [True, False]
    assert [each["fields"] for each in judged] == [1.0, 0.0]


def test_the_deepest_json_can_be_held_against_a_schema_that_goes_all_the_way():
    schema = {"type": "array", "items": {"$ref": "#"}}
    deepest = "[" * strict_json.DEPTH + "]" * strict_json.DEPTH
    assert answers.complaint(deepest, schema) is None
    assert answers.complaint(f"[{deepest}]", schema) == strict_json.TOO_DEEP


def test_no_response_of_the_data_sets_loops():
    for name in ("travel", "packing"):
        for line in jsonl.read(ROOT / f"data/{name}.jsonl"):
            assert not answers.loops(line["response"])
