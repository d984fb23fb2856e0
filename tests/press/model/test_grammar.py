"""`check` asks the decoder itself what it cannot take of a response schema."""

import pytest
from projects import ROOT

from press.core.errors import UserError
from press.model import grammar
from press.params import settings

pytestmark = pytest.mark.integration


def checked(schema: dict) -> None:
    params = settings.load(ROOT / "params.yaml")
    adapter = params.adapter("travel").model_copy(update={"response_schema": schema})
    grammar.check(params.model_copy(update={"adapters": {"travel": adapter}}))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "patternProperties": {"^[a-z]+$": {"type": "integer"}}, "additionalProperties": False},
        {"properties": {f"name {index}": {"type": "string"} for index in range(200)}},
        {"$defs": {"list": {"items": {"$ref": "#/$defs/list"}}}, "$ref": "#/$defs/list"},
        {"x-guidance": {"whitespace_flexible": False}},
        # Short enough as a package has it, though not with a line for each.
        {"enum": list(range(12_000))},
    ],
)
def test_what_the_decoder_can_take_passes(schema):
    checked(schema)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"propertyNames": {"pattern": "a"}}, 'Unimplemented keys: ["propertyNames"]'),
        ({"properties": {"a": {"type": "array", "uniqueItems": True}}}, 'Unimplemented keys: ["uniqueItems"]'),
        ({"not": {}}, 'Unimplemented keys: ["not"]'),
        ({"type": "string", "format": "postcode"}, "Unknown format: postcode"),
        ({"type": "string", "pattern": "(?=a)"}, "look-around, including look-ahead and look-behind, is not supported"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "Unsatisfiable schema: minimum (5) is greater than"),
        ({"x-guidance": {"lenient": True}}, "x-guidance.lenient leaves out what it cannot take"),
        ({"enum": ["a" * 100_000]}, "it has more than 100000 characters"),
        ({"enum": ["é" * 20_000]}, "it has more than 100000 characters"),
    ],
)
def test_what_it_cannot_take_is_named(schema, reason):
    with pytest.raises(UserError) as caught:
        checked(schema)
    sentence = "params.yaml: adapters.travel.response_schema: the decoder cannot hold answers to it (llguidance: "
    assert str(caught.value).startswith(sentence)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_schema_that_takes_too_long_to_compile_is_refused(monkeypatch):
    """It would take as long again for each answer."""
    monkeypatch.setattr(grammar, "SECONDS", 4)
    patterns = [{"type": "string", "pattern": f".*{letter}.*[0-9]{{3}}"} for letter in "abcdefghijklmnopqrst"]
    with pytest.raises(UserError, match=r"\(llguidance: no end after 4 s\)"):
        checked({"allOf": patterns})


def test_the_default_schemas_pass():
    grammar.check(settings.load(ROOT / "params.yaml"))
