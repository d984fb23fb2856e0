"""What a record says, whatever its fields are called; or what is wrong with it, and what would fit."""

import json
import re

import pytest

from press.data import formats
from press.data.formats import Chat, Reading

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "why"}
ANSWER = {"role": "assistant", "content": "so"}
AGAIN = [{"role": "user", "content": "and"}, {"role": "assistant", "content": "then"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}

SAME = [
    ({"messages": [USER, ANSWER]}, "messages", [USER, ANSWER]),
    ({"messages": [SYSTEM, USER, ANSWER, *AGAIN]}, "messages", [SYSTEM, USER, ANSWER, *AGAIN]),
    (
        {"messages": [USER | {"content": [{"type": "text", "text": "wh"}, {"type": "text", "text": "y"}]}, ANSWER]},
        "messages",
        [USER, ANSWER],
    ),
    ({"messages": [USER | {"name": None}, ANSWER | {"tool_calls": None}]}, "messages", [USER, ANSWER]),
    ({"prompt": "why", "response": "so"}, "prompt", [USER, ANSWER]),
    ({"prompt": "why", "response": "so", "system": "Be brief."}, "prompt", [SYSTEM, USER, ANSWER]),
    ({"prompt": "why", "response": "so", "system": " "}, "prompt", [USER, ANSWER]),
    ({"instruction": "why", "input": "", "output": "so"}, "alpaca", [USER, ANSWER]),
    ({"instruction": "why", "output": "so"}, "alpaca", [USER, ANSWER]),
    ({"instruction": "why", "input": "this", "output": "so"}, "alpaca", [USER | {"content": "why\n\nthis"}, ANSWER]),
    (
        {"conversations": [{"from": "human", "value": "why"}, {"from": "gpt", "value": "so"}]},
        "sharegpt",
        [USER, ANSWER],
    ),
    (
        {"conversations": [{"from": "human", "value": "why"}, {"from": "gpt", "value": "so"}], "system": "Be brief."},
        "sharegpt",
        [SYSTEM, USER, ANSWER],
    ),
]


@pytest.mark.parametrize(
    ("record", "name", "messages"), SAME, ids=[f"{each[1]} {index}" for index, each in enumerate(SAME)]
)
def test_a_format_is_guessed_and_gives_a_chat(record, name, messages):
    reading = formats.guess(record, (), {})
    assert reading.name == name
    assert reading.said(record) == Chat(messages)


@pytest.mark.parametrize("template", [(), ("prompt", "response")], ids=["chat", "own template"])
@pytest.mark.parametrize(
    ("record", "fields", "name"),
    [
        ({"conversations": [USER, ANSWER]}, {}, "messages"),
        ({"dialog": [USER, ANSWER]}, {"conversations": "dialog"}, "messages"),
        ({"messages": [{"from": "human", "value": "why"}, {"from": "gpt", "value": "so"}]}, {}, "sharegpt"),
    ],
)
def test_messages_of_one_format_are_told_under_the_name_of_the_other(record, fields, name, template):
    reading = formats.guess(record, template, fields)
    assert (reading.name, reading.ambiguity()) == (name, None)
    assert reading.said(record) == ({"prompt": "why", "response": "so"} if template else Chat([USER, ANSWER]))


def test_what_the_system_says_is_not_dropped_by_a_template_that_has_no_place_for_it():
    record = {"prompt": "a", "response": "b", "system": "c"}
    with pytest.raises(
        ValueError, match=r"^field 'system' is what the system says, which the template has no place fo"
    ):
        Reading("prompt", ("prompt", "response")).said(record)
    for template, fields in ((("system", "prompt", "response"), {}), (("prompt", "response"), {"system": "none"})):
        assert Reading("prompt", template, fields).said(record) == {name: record[name] for name in template}


def test_a_text_is_a_text():
    reading = formats.guess({"text": "once"}, (), {})
    assert (reading.name, reading.said({"text": "once"})) == ("text", "once")


def test_fields_have_the_names_that_the_data_gives_them():
    fields = {"prompt": "question", "response": "answer"}
    record = {"question": "why", "answer": "so", "prompt": 7}
    assert formats.guess(record, (), fields).said(record) == Chat([USER, ANSWER])
    fields = {"conversations": "turns", "from": "who", "value": "says"}
    record = {"turns": [{"who": "user", "says": "why"}, {"who": "model", "says": "so"}]}
    assert formats.guess(record, (), fields).said(record) == Chat([USER, ANSWER])


@pytest.mark.parametrize(
    ("name", "template", "fields", "both"),
    [
        ("prompt", (), {"prompt": "text", "response": "text"}, "'prompt' and 'response' both be the data's 'text'"),
        ("prompt", (), {"prompt": "response"}, "'prompt' and 'response' both be the data's 'response'"),
        ("prompt", (), {"system": "prompt"}, "'prompt' and 'system' both be the data's 'prompt'"),
        ("prompt", ("a", "response"), {"a": "response"}, "'a' and 'response' both be the data's 'response'"),
        ("alpaca", (), {"instruction": "input"}, "'instruction' and 'input' both be the data's 'input'"),
        ("sharegpt", (), {"from": "value"}, "'from' and 'value' both be the data's 'value'"),
        ("messages", (), {"tools": "messages"}, "'messages' and 'tools' both be the data's 'messages'"),
    ],
)
def test_no_two_fields_are_one_of_the_data(name, template, fields, both):
    assert formats.Reading(name, template, fields).ambiguity() == f"fields lets {both}: give each its own"


def test_what_the_format_has_not_and_what_is_in_a_message_is_no_second_one():
    assert formats.Reading("prompt", (), {"prompt": "input", "response": "output"}).ambiguity() is None
    assert formats.Reading("prompt", ("a", "response"), {"a": "system"}).ambiguity() is None
    assert formats.Reading("sharegpt", (), {"conversations": "value"}).ambiguity() is None


def test_a_template_s_own_fields_come_first():
    record = {"city": "Rome", "response": "so", "messages": [USER, ANSWER]}
    reading = formats.guess(record, ("city", "response"), {})
    assert reading.said(record) == {"city": "Rome", "response": "so"}
    # Of another format, a template takes what it has a place for.
    reading = formats.guess({"messages": []}, ("system", "prompt", "response"), {})
    assert reading.said({"messages": [SYSTEM, USER, ANSWER]}) == {
        "system": "Be brief.",
        "prompt": "why",
        "response": "so",
    }
    for messages in ([USER, ANSWER], [SYSTEM, USER, ANSWER, *AGAIN]):
        with pytest.raises(ValueError, match="which the template has no place for: it names system, prompt, response"):
            reading.said({"messages": messages})


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}'], ids=["object", "text"])
@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL])], ids=["list", "text"])
def test_tools_and_their_calls_are_read_as_data_sets_have_them(arguments, tools):
    call = {"id": "c1", "function": {"name": "add", "arguments": arguments}}
    spoken = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "1"},
        ANSWER,
    ]
    found = Reading("messages").said({"messages": spoken, "tools": tools})
    assert found == Chat([USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}, *spoken[2:]], [TOOL])


def chat(*messages: object) -> dict:
    return {"messages": list(messages)}


WRONG = [
    ({"messages": []}, "field 'messages' is [], not a list of messages"),
    ({"messages": "why"}, "field 'messages' is \"why\", not a list of messages"),
    ({"text": "a"}, "no field 'messages', as the format messages has; it has text"),
    (chat(USER), "the last message is the user's, but there must be an answer to learn"),
    (chat(ANSWER), "the first message is the assistant's, so that it answers nothing"),
    (chat(USER, SYSTEM, ANSWER), "the system's message is not the first one"),
    (chat(7, ANSWER), "message 1 is 7, not an object"),
    (
        chat(USER, {"role": "bot", "content": "a"}),
        'message 2 has the role "bot", but it must be one of system, user, assistant, tool',
    ),
    (
        chat({"content": "a"}, ANSWER),
        "message 1 has the role null, but it must be one of system, user, assistant, tool",
    ),
    (
        chat({"role": ["user"], "content": "a"}, ANSWER),
        'message 1 has the role ["user"], but it must be one of system, user, assistant, tool',
    ),
    (chat(USER, {"role": "assistant"}), "message 2 has no content"),
    (chat(USER, {"role": "assistant", "content": " "}), "message 2 has no content"),
    (
        chat({"role": "user", "content": [{"type": "image"}]}, ANSWER),
        "message 1 has a part that is no text: only text can be read",
    ),
    (chat(USER, ANSWER | {"tool_calls": {}}), None),
    (chat(USER, ANSWER | {"tool_calls": {"a": 1}}), 'message 2 has tool_calls that are {"a": 1}, not a list'),
    (chat(USER, ANSWER | {"tool_calls": [7]}), "message 2 calls a tool by 7, which has no function with a name"),
    (
        chat(USER, ANSWER | {"tool_calls": [{"function": {}}]}),
        'message 2 calls a tool by {"function": {}}, which has no function with a name',
    ),
    (
        chat(USER, ANSWER | {"tool_calls": [{"name": "f", "arguments": "{"}]}),
        "message 2 calls 'f' with arguments that are not JSON (",
    ),
    (
        chat(USER, ANSWER | {"tool_calls": [{"name": "f", "arguments": '{"a": 1, "a": 2}'}]}),
        "message 2 calls 'f' with arguments that are JSON with the name \"a\" twice",
    ),
    (
        chat(USER, ANSWER | {"tool_calls": [{"name": "f", "arguments": [1]}]}),
        "message 2 calls 'f' with [1], not an object",
    ),
    (chat(USER, ANSWER) | {"tools": "["}, "tools that are not JSON ("),
    (chat(USER, ANSWER) | {"tools": {"a": 1}}, 'tools that are {"a": 1}, not a list of objects'),
    (chat(USER, ANSWER) | {"tools": ["a"]}, 'tools that are ["a"], not a list of objects'),
]


@pytest.mark.parametrize(("record", "sentence"), WRONG, ids=[str(sentence)[:60] for _, sentence in WRONG])
def test_messages_that_do_not_fit_say_what_is_wrong(record, sentence):
    if sentence is None:
        assert Reading("messages").said(record) == Chat([USER, ANSWER])
    else:
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
            Reading("messages").said(record)


@pytest.mark.parametrize(
    ("name", "record", "sentence"),
    [
        ("alpaca", {"instruction": "a"}, "no field 'output', as the format alpaca has; it has instruction"),
        ("alpaca", {"instruction": "a", "output": 7}, "field 'output' is 7, not a non-empty string"),
        ("alpaca", {"instruction": "a", "input": 7, "output": "b"}, "field 'input' is 7, not a string"),
        (
            "prompt",
            {"prompt": [USER], "response": "b"},
            'field \'prompt\' is [{"role": "user", "content": "why"}], not a non-empty string',
        ),
        ("text", {"text": " "}, "field 'text' is \" \", not a non-empty string"),
        ("text", {"text": None}, "field 'text' is null, not a non-empty string"),
        (
            "sharegpt",
            {"conversations": [{"from": "Bing", "value": "a"}]},
            'message 1 has the from "Bing", but it must be one of system, human, user, gpt, assistant, model, tool',
        ),
        (
            "sharegpt",
            {"conversations": [{"value": "a"}]},
            "message 1 has the from null, but it must be one of system, human,",
        ),
        ("sharegpt", {"conversations": [{"from": "human", "value": 7}]}, "message 1 has no content"),
    ],
)
def test_a_record_that_does_not_fit_its_format_says_so(name, record, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        Reading(name).said(record)


@pytest.mark.parametrize("record", [{}, {"question": "a", "answer": "b"}, {"prompt": "a", "completion": "b"}])
def test_fields_of_no_format_are_told_what_would_fit(record):
    with pytest.raises(
        ValueError, match=r"^no known format: it has the fields .*; where they have other names"
    ) as caught:
        formats.guess(record, (), {})
    assert "messages: messages; prompt: prompt, response; alpaca: instruction, output; sharegpt: " in str(caught.value)
