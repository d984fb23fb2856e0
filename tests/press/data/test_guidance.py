"""A response schema as the decoder is held to it: names and blanks as in the data."""

import json

import pytest

from press.data import guidance, schemas

SCHEMA = {
    "properties": {
        "clothes": {"properties": {"hat": {"type": "integer"}, "boots": {"type": "integer"}}},
        "days": {"type": "integer"},
        "unused": {"type": "integer"},
        "weather": {"enum": ["wet, or: not"]},
    },
    "required": ["clothes", "days"],
}
ANSWER = {"days": 2, "weather": "wet, or: not", "clothes": {"boots": 1, "hat": 2}}


def test_names_have_the_order_of_the_data():
    found = guidance.adapted(SCHEMA, [json.dumps({"days": 2}), json.dumps(ANSWER)])
    assert list(found["properties"]) == ["days", "weather", "clothes", "unused"]
    assert list(found["properties"]["clothes"]["properties"]) == ["boots", "hat"]


def test_it_says_what_the_schema_says():
    found = guidance.adapted(SCHEMA, [json.dumps(ANSWER)])
    assert {key: value for key, value in found.items() if key != guidance.OPTIONS} == SCHEMA
    schemas.check(found)


@pytest.mark.parametrize(
    ("separators", "options"),
    [
        ((", ", ": "), {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}),
        ((",", ":"), {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}),
        ((" , ", ": "), None),
    ],
)
def test_blanks_are_those_of_the_data(separators, options):
    answers = [json.dumps(value, separators=separators) for value in (ANSWER, [1.50, "\u00e9"], "a , b")]
    assert guidance.adapted(SCHEMA, answers).get(guidance.OPTIONS) == options


def test_where_answers_differ_in_their_blanks_any_are_taken():
    answers = [json.dumps(ANSWER), json.dumps(ANSWER, indent=2)]
    assert guidance.OPTIONS not in guidance.adapted(SCHEMA, answers)


def test_an_answer_that_was_cut_still_shows_its_blanks():
    answers = [json.dumps(ANSWER)[:40]]
    assert guidance.adapted(SCHEMA, answers)[guidance.OPTIONS]["item_separator"] == ", "


@pytest.mark.parametrize("schema", [{"enum": [{"properties": 1}]}, {"properties": {}}])
def test_schemas_without_names_stay(schema):
    assert schema.items() <= guidance.adapted(schema, ["1"]).items()
