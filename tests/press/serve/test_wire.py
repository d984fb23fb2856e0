"""A body is a request that can be answered, or a refusal that names what is wrong; nothing else comes of it."""

import contextlib
import json

import hypothesis
import pytest
from hypothesis import strategies

from press.serve import wire
from press.serve.errors import RefusedError

ASKED = {"model": "travel", "messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"type": "object", "properties": {"days": {"type": "integer", "default": None}}}


def called(arguments: str) -> dict:
    return {"id": "1", "type": "function", "function": {"name": "weather", "arguments": arguments}}


def tool(**changes: object) -> dict:
    return {"type": "function", "function": {"name": "weather", **changes}}


def chosen(name: str) -> dict:
    return {"type": "function", "function": {"name": name}}


CALL, TOOL = called('{"city": "Rome"}'), tool(description="says it")


def parsed(**changes: object) -> wire.ChatRequest:
    return wire.parse(json.dumps({**ASKED, **changes}).encode(), wire.ChatRequest)


def refused(body: bytes) -> RefusedError:
    with pytest.raises(RefusedError) as error:
        wire.parse(body, wire.ChatRequest)
    assert error.value.status == 400
    assert "\n" not in error.value.message
    return error.value


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "1"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "tool", "tool_call_id": "1"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages.0.tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [called("[]")]}]}, "messages.0.tool_calls.0.function"),
        ({"messages": [{"role": "assistant", "tool_calls": [called('{"a": NaN}')]}]}, "messages.0.tool_calls.0"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "1"}, "max_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"store": 0}, "store"),
        ({"logprobs": 0}, "logprobs"),
        ({"stream_options": {"include_obfuscation": 0}}, "stream_options.include_obfuscation"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "tools": [TOOL]}, "logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"tools": []}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [tool(name="a b")]}, "tools.0.function.name"),
        ({"tools": [tool(parameters={"type": "string"})]}, "tools.0.function.parameters"),
        ({"tools": [tool(strict=True)]}, "tool_choice"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": chosen("time")}, "tool_choice"),
        ({"tool_choice": chosen("weather")}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(changes, param):
    error = refused(json.dumps({**ASKED, **changes}).encode())
    assert error.param.startswith(param)
    assert param in error.message
    assert error.body()["error"]["type"] == "invalid_request_error"
    assert error.code == ("unsupported_parameter" if param == "logit_bias" else "invalid_value")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"\xff{}",
        b'{"model": "a", "model": "b"}',
        b'{"temperature": NaN}',
        b'{"model": "\\ud800"}',
        b"[" * 100_000,
        b'{"seed": 1' + b"0" * 5000 + b"}",
    ],
)
def test_what_is_no_request_is_refused(body):
    refused(body)


def test_a_refusal_does_not_repeat_the_value():
    assert "secret" not in refused(json.dumps({**ASKED, "temperature": "secret"}).encode()).message


def test_null_is_what_is_not_given():
    assert parsed(temperature=None, stop=None, tools=None, stream_options=None) == parsed()


def test_the_clients_own_answers_can_be_sent_back():
    answer = {"role": "assistant", "content": "hello", "refusal": None, "tool_calls": None, "audio": None}
    assert parsed(messages=[*ASKED["messages"], answer]).messages[1].turn() == {"role": "assistant", "content": "hello"}


def test_a_call_goes_to_the_template_as_an_object_and_what_came_of_it_as_a_turn():
    answer = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "sunny"}]}
    turns = [each.turn() for each in parsed(messages=[*ASKED["messages"], answer, result]).messages[1:]]
    (call,) = turns[0].pop("tool_calls")
    assert call["function"] == {"name": "weather", "arguments": {"city": "Rome"}}
    assert turns == [{"role": "assistant", "content": ""}, {"role": "tool", "content": "sunny"}]


@pytest.mark.parametrize(
    ("choice", "functions", "must"),
    [
        ({}, ["weather", "time"], False),
        ({"tool_choice": "auto"}, ["weather", "time"], False),
        ({"tool_choice": "none"}, [], False),
        ({"tool_choice": "required"}, ["weather", "time"], True),
        ({"tool_choice": chosen("time")}, ["time"], True),
    ],
)
def test_a_choice_says_which_functions_may_or_must_be_called(choice, functions, must):
    asked = parsed(tools=[tool(), tool(name="time", strict=must)], **choice)
    assert ([each.name for each in asked.functions()], asked.must_call()) == (functions, must)
    assert (asked.own_schema() is not None) == must
    assert len(asked.offered()) == (0 if asked.tool_choice == "none" else 2)
    assert asked.schema_param == ("tools" if must else "response_format")


def test_a_function_without_parameters_takes_none():
    (function,) = parsed(tools=[tool()]).functions()
    assert function.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert parsed(tools=[TOOL]).offered()[0].turn() == tool(description="says it", parameters=function.parameters)


def test_tokens_are_told_of_if_that_is_wanted():
    assert [parsed(**each).tops() for each in ({}, {"logprobs": True}, {"logprobs": True, "top_logprobs": 5})] == [
        None,
        0,
        5,
    ]


def test_parts_are_one_text_and_a_developer_is_the_system():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    (message,) = parsed(messages=[{"role": "developer", "content": parts}]).messages
    assert message.turn() == {"role": "system", "content": "ab"}


def test_stop_texts_are_one_or_several_and_the_newer_name_of_a_limit_goes_first():
    assert parsed(stop="x").stops() == ["x"]
    assert parsed(stop=["x", "y"]).stops() == ["x", "y"]
    assert parsed(stop="").stops() == []
    assert (parsed().most(), parsed(max_tokens=3).most()) == (None, 3)
    assert parsed(max_tokens=3, max_completion_tokens=4).most() == 4


def test_a_schema_is_the_clients_own_written_without_any_number_of_blanks():
    named = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA, "strict": True}}
    assert parsed(response_format=named).own_schema() == {wire.OPTIONS: wire.WRITTEN, **SCHEMA}
    assert parsed(response_format={"type": "json_object"}).own_schema()["type"] == "object"
    assert parsed(response_format={"type": "text"}).own_schema() is None
    assert parsed().own_schema() is None


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({wire.OPTIONS: {"lenient": True}}, "lenient"),
        ({wire.OPTIONS: "lenient"}, "lenient"),
        ({"enum": ["x" * 100_000]}, "characters"),
    ],
)
def test_a_schema_that_would_not_be_held_or_is_too_long_is_refused(schema, why):
    with pytest.raises(RefusedError, match=why):
        wire.checked({wire.OPTIONS: wire.WRITTEN, **schema})


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = strategies.sampled_from([*wire.ChatRequest.model_fields, "tools"])


@hypothesis.given(strategies.dictionaries(NAMES, JSON, max_size=4), strategies.booleans())
def test_any_values_are_a_request_or_a_refusal(changes, whole):
    with contextlib.suppress(RefusedError):
        assert wire.parse(json.dumps({**(ASKED if whole else {}), **changes}).encode(), wire.ChatRequest).model


@hypothesis.given(strategies.binary(max_size=60))
def test_any_bytes_are_refused(body):
    refused(body)
