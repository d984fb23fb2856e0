"""What an answer is worth beside the right one, and that what always answers the same is seen to be worth little."""

import json

import pytest
from projects import ROOT
from sacrebleu import sentence_chrf

from press.data import jsonl
from press.params import gates, settings
from press.quality import answering, scorecard

SCHEMA = {
    "type": "object",
    "required": ["days", "mood"],
    "properties": {
        "days": {"type": "integer"},
        "mood": {"enum": ["good", "bad"]},
        "name": {"type": "string"},
        "sunny": {"type": ["boolean", "null"]},
        "clothes": {"type": "object", "properties": {"socks": {"type": "integer"}, "notes": {"type": "string"}}},
        "size": {"$ref": "#/$defs/size"},
        "speed": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "either": {"anyOf": [{"type": "number"}, {"type": "string"}]},
        "inner": {"$ref": "#"},
        "two words": {"type": "integer"},
        "dotted.name": {"type": "integer"},
        "any": True,
        "table": {"enum": [[1], 2]},
    },
    "$defs": {"size": {"enum": ["s", "m"]}},
}
RIGHT = {"days": 3, "mood": "good", "clothes": {"socks": 4}}


def test_fields_are_those_of_a_name_and_a_scalar_type_wherever_the_schema_fixes_both():
    paths = [".".join(path) for path in scorecard.scalar_paths(SCHEMA)]
    assert paths == ["days", "mood", "sunny", "clothes.socks", "size", "speed"]
    for path in paths:
        gates.check(f"packing.fields.{path} >= 0.9")


def test_a_schema_that_has_no_fields_has_none():
    assert scorecard.scalar_paths({"type": "array", "items": SCHEMA}) == []
    assert scorecard.scalar_paths({"type": "object", "additionalProperties": {"type": "integer"}}) == []


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, []),
        ({"days": 4}, ["days"]),
        ({"days": 3.0, "name": "whoever"}, []),
        ({"clothes": {"socks": 5}}, ["clothes.socks"]),
        ({"clothes": {}}, ["clothes.socks"]),
        ({"sunny": True}, ["sunny"]),
        # Not valid, and so nothing of it counts.
        ({"mood": "none"}, ["days", "mood", "clothes.socks"]),
    ],
)
def test_an_answer_s_fields_are_right_if_they_are_the_right_answer_s(changes, wrong):
    given = scorecard.fields(json.dumps(RIGHT | changes), json.dumps(RIGHT), SCHEMA)
    assert [name for name, right in given.items() if not right] == wrong
    # One that neither has is none that could be wrong.
    assert set(given) == {"days", "mood", "clothes.socks"} | ({"sunny"} & changes.keys())


def test_what_is_no_json_has_no_field_right():
    assert set(scorecard.fields("three days", json.dumps(RIGHT), SCHEMA).values()) == {False}


def test_a_text_is_worth_what_sacrebleu_says():
    answer, right = "The bill is la cuenta.", "Say la cuenta, por favor."
    assert scorecard.judge(answer, right, None) == {"chrf": sentence_chrf(answer, [right]).score / 100}
    assert [scorecard.chrf(text, right) for text in (right, "")] == [1.0, 0.0]
    assert scorecard.chrf("yes", "yes") == 1.0


def test_an_adapter_that_always_gives_one_answer_scores_badly():
    """The best that one answer can do on the default data, beside one that is nearly right."""
    data = {
        name: [line["response"] for line in jsonl.read(ROOT / f"data/{name}.jsonl")][:60]
        for name in ("packing", "travel")
    }
    schema = settings.load(ROOT / "params.yaml").adapter("packing").response_schema
    always = [scorecard.fields(data["packing"][0], right, schema) for right in data["packing"]]
    own = [scorecard.fields(right, right, schema) for right in data["packing"]]
    for field, limit in (("days", 0.4), ("weather", 0.5)):
        assert sum(each[field] for each in always) / 60 < limit
        assert all(each[field] for each in own)
    texts = data["travel"]
    best = max(sum(scorecard.chrf(one, right) for right in texts) / 60 for one in texts[:4])
    half = sum(scorecard.chrf(right[: len(right) // 2], right) for right in texts) / 60
    assert best < 0.3 < half


def test_shares_are_of_the_inputs_that_have_them():
    cases = [
        {"input": "a", "packing.ended.adapter": True, "packing.ended.bare": False, "packing.fields.days": True},
        {
            "input": "b",
            "packing.ended.adapter": False,
            "packing.fields.days": True,
            "packing.fields.clothes.socks": False,
        },
        {"input": "c", "packing.ended.adapter": True, "packing.fields.days": False},
    ]
    metrics = answering.figures("packing", cases)
    assert metrics == {
        "ended": {"adapter": 0.666667, "bare": 0.0},
        "fields": {"days": 0.666667, "clothes": {"socks": 0.0}},
    }
    (result,) = gates.judge(["packing.fields.days >= 0.9"], {"packing": metrics}, ["packing"], cases)
    assert not result.passed
    assert "on 'c'" in result.reason
