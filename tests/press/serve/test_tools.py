"""Calls of tools within an answer, wherever its pieces are cut; and the schema that a call is held to."""

import json

import pytest

from press.data import schemas
from press.serve import tools
from press.serve.tools import CLOSE, OPEN, Call

WEATHER = '{"name": "weather", "arguments": {"city": "Röm"}}'
CALL = f"{OPEN}\n{WEATHER}\n{CLOSE}"
CALLED = ("weather", {"city": "Röm"})


def read(text: str, size: int, *, begun: bool = False) -> list[str | tuple[str, dict]]:
    reader = tools.Reader(["weather", "time"], begun=begun)
    found = [part for start in range(0, len(text), size) for part in reader.feed(text[start : start + size])]
    found += reader.end()
    assert reader.called == any(isinstance(part, Call) for part in found)
    together: list[str | tuple[str, dict]] = []
    for part in found:
        if isinstance(part, Call):
            together.append((part.name, json.loads(part.arguments)))
        elif together and isinstance(together[-1], str):
            together[-1] += part
        else:
            together.append(part)
    return together


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no call, but a < b <tool", ["no call, but a < b <tool"]),
        ("spaces stay \n", ["spaces stay \n"]),
        (CALL, [CALLED]),
        (f"I look.\n\n{CALL}\n{CALL}\n", ["I look.", CALLED, CALLED]),
        (f"{CALL}\nthat is it", [CALLED, "that is it"]),
        (f"{OPEN}{WEATHER}", [CALLED]),
        (f"{OPEN}{WEATHER[:-9]}", [f"{OPEN}{WEATHER[:-9]}"]),
        (f"{OPEN}not JSON{CLOSE}", [f"{OPEN}not JSON{CLOSE}"]),
        (CALL.replace("weather", "rocket"), [CALL.replace("weather", "rocket")]),
        (CALL.replace('{"city": "Röm"}', "3"), [CALL.replace('{"city": "Röm"}', "3")]),
        (CALL.replace('"Röm"', "NaN"), [CALL.replace('"Röm"', "NaN")]),
        ("", []),
    ],
)
def test_calls_are_calls_and_all_else_is_text(text, expected, size):
    assert read(text, size) == expected


@pytest.mark.parametrize("size", [1, 1000])
def test_a_call_that_was_begun_in_the_prompt_ends_with_the_answer(size):
    assert read(WEATHER, size, begun=True) == [CALLED]
    assert read(WEATHER.replace("Röm", CLOSE), size, begun=True) == [("weather", {"city": CLOSE})]
    assert read(WEATHER[:-2], size, begun=True) == [WEATHER[:-2]]


def test_text_is_not_held_back_longer_than_it_may_begin_a_call():
    reader = tools.Reader(["weather"], begun=False)
    assert list(reader.feed("a <too")) == ["a"]
    assert list(reader.feed("th>")) == [" <tooth>"]


def test_calls_have_different_ids():
    first, second = tools.Reader(["weather"], begun=False).feed(CALL + CALL)
    assert first.id != second.id


def test_a_schema_of_calls_holds_the_references_of_each_functions_own():
    point = {"type": "object", "properties": {"x": {"$ref": "#/$defs/one"}}, "$defs": {"one": {"type": "integer"}}}
    label = {"type": "object", "properties": {"x": {"$ref": "#/$defs/one"}}, "$defs": {"one": {"type": "string"}}}
    schema = tools.calls_schema({"point": point, "label": label})
    for name, value, right in (("point", 1, True), ("point", "a", False), ("label", "a", True), ("label", 1, False)):
        call = {"name": name, "arguments": {"x": value}}
        assert (schemas.complaint(call, schema) is None) == right
    assert "anyOf" not in tools.calls_schema({"point": point})
