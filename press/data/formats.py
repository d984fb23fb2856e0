"""What a record of a data set says, whatever its fields are called: a chat, a template's fields, or plain text.

| format     | its fields                                                                          |
|------------|-------------------------------------------------------------------------------------|
| `messages` | `messages` with role and content, as the hub's data sets have them; `tools`          |
| `prompt`   | `prompt`, `response` and `system`, or those that the adapter's template names        |
| `alpaca`   | `instruction`, `input`, `output`; `system`                                           |
| `sharegpt` | `conversations` with `from` and `value`; `system`, `tools`                           |
| `text`     | `text`                                                                               |
| `preference` | `chosen` and `rejected`, and `prompt`, `system`, `tools` (press/data/preferences.py) |
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from press.data import strict_json
from press.data.templates import RESPONSE

NAMES = ("messages", "prompt", "alpaca", "sharegpt", "text")
# The one with two answers, for the objectives that learn from such pairs.
PREFERENCE = "preference"
CHOSEN, REJECTED = "chosen", "rejected"
ROLES = ("system", "user", "assistant", "tool")
ASSISTANT = ROLES[2]
# A format's fields: those that a record must have, and those that it may have.
NEEDED = {
    "messages": ("messages",),
    "prompt": ("prompt", RESPONSE),
    "alpaca": ("instruction", "output"),
    "sharegpt": ("conversations", "from", "value"),
    "text": ("text",),
    PREFERENCE: (CHOSEN, REJECTED),
}
OPTIONAL = {
    "messages": ("tools",),
    "prompt": ("system",),
    "alpaca": ("input", "system"),
    "sharegpt": ("system", "tools"),
    PREFERENCE: ("prompt", "system", "tools"),
}
# Those that are in each message.
INNER = ("from", "value")
# Data sets have messages of either format under the other one's name, too.
EXCHANGED = {"messages": "sharegpt", "sharegpt": "messages"}
# Who speaks in ShareGPT's conversations.
SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": ASSISTANT,
    "assistant": ASSISTANT,
    "model": ASSISTANT,
    "tool": "tool",
    "observation": "tool",
}


@dataclass
class Chat:
    """A chat that ends with the assistant's answer.

    :param messages: each with a role, a content, and what else it has
    :param tools: the functions that the assistant may call, as JSON Schema describes them
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Reading:
    """How records are read.

    :param name: the format
    :param template: names of the fields of the adapter's own template; empty for the chat template
    :param fields: what the data set calls a field, where it has another name
    """

    name: str
    template: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of the fields that a record must have."""
        return self.template if self.template and self.name == "prompt" else NEEDED[self.name]

    def has_fields(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record has all fields that it must have, those in its messages left aside."""
        return all(self.fields.get(each, each) in record for each in self.needed if each not in INNER)

    def among_exchanged(self, record: Mapping[str, Any]) -> "Reading":
        """Return how to read a record that has the messages of one format under the other one's name."""
        other = EXCHANGED.get(self.name)
        if not other or self._speaks(record):
            return self
        own = NEEDED[self.name][0]
        exchanged = Reading(other, self.template, {**self.fields, NEEDED[other][0]: self.fields.get(own, own)})
        return exchanged if exchanged._speaks(record) else self

    def _speaks(self, record: Mapping[str, Any]) -> bool:
        """Return whether the first message of a record says who speaks, as the format has it."""
        name, who = NEEDED[self.name][0], "role" if self.name == "messages" else INNER[0]
        spoken = record.get(self.fields.get(name, name))
        first = spoken[0] if isinstance(spoken, list) and spoken else None
        return isinstance(first, dict) and self.fields.get(who, who) in first

    def ambiguity(self) -> str | None:
        """Return which two fields of the format would be read from one field of the data, or None."""
        names = (*self.needed, *(() if self.template and self.name == "prompt" else OPTIONAL.get(self.name, ())))
        # Those of a message are others than those of the record.
        for level in ([each for each in names if each not in INNER], [each for each in names if each in INNER]):
            first: dict[str, str] = {}
            for name in level:
                own = self.fields.get(name, name)
                if first.setdefault(own, name) != name:
                    return f"fields lets {first[own]!r} and {name!r} both be the data's {own!r}: give each its own"
        return None

    def said(self, record: Mapping[str, Any]) -> "Chat | dict[str, str] | str":
        """Return what a record says: a chat, the fields of a template, or plain text.

        :raises ValueError: if it does not fit the format
        """
        if self.name == "text":
            return self._text(record, "text")
        if self.name == "prompt":
            values = {name: self._text(record, name) for name in self.needed}
            if self.template:
                self._check_system(record)
                return values
            return _chat(self._optional(record, "system"), values["prompt"], values[RESPONSE])
        if self.name == "alpaca":
            asked = [self._text(record, "instruction"), self._optional(record, "input")]
            question = "\n\n".join(filter(None, asked))
            chat = _chat(self._optional(record, "system"), question, self._text(record, "output"))
        else:
            chat = Chat(list(self._messages(record)), _tools(self._value(record, "tools")))
            _check_order(chat.messages)
        return self._in_template(chat) if self.template else chat

    def _value(self, record: Mapping[str, Any], name: str) -> Any:
        return record.get(self.fields.get(name, name))

    def _optional(self, record: Mapping[str, Any], name: str) -> str:
        value = self._value(record, name)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"field {self.fields.get(name, name)!r} is {_shown(value)}, not a string")
        return value if value and value.strip() else ""

    def _check_system(self, record: Mapping[str, Any]) -> None:
        """Refuse what the system says where the adapter's own template would leave it out."""
        if "system" not in self.template and self._optional(record, "system"):
            own = self.fields.get("system", "system")
            raise ValueError(
                f"field {own!r} is what the system says, which the template has no place for: it names "
                f"{', '.join(self.template)} (template: chat takes it)"
            )

    def _text(self, record: Mapping[str, Any], name: str) -> str:
        own = self.fields.get(name, name)
        if own not in record:
            raise ValueError(self._lacks(own, record))
        value = record[own]
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"field {own!r} is {_shown(value)}, not a non-empty string")
        return value

    def _lacks(self, own: str, record: Mapping[str, Any]) -> str:
        by = "which the template names" if self.template and self.name == "prompt" else f"as the format {self.name} has"
        return f"no field {own!r}, {by}; it has {', '.join(record) or 'none'}"

    def _messages(self, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        name = NEEDED[self.name][0]
        own = self.fields.get(name, name)
        if own not in record:
            raise ValueError(self._lacks(own, record))
        spoken = record[own]
        if not isinstance(spoken, list) or not spoken:
            raise ValueError(f"field {own!r} is {_shown(spoken)}, not a list of messages")
        system = self._optional(record, "system") if self.name == "sharegpt" else ""
        if system:
            yield {"role": "system", "content": system}
        for number, message in enumerate(spoken, start=1):
            if not isinstance(message, dict):
                raise ValueError(f"message {number} is {_shown(message)}, not an object")
            yield _message(number, self._of_sharegpt(number, message) if self.name == "sharegpt" else message)

    def _of_sharegpt(self, number: int, message: Mapping[str, Any]) -> dict[str, Any]:
        speaker, text = (self.fields.get(name, name) for name in INNER)
        who = message.get(speaker)
        if not isinstance(who, str) or who not in SPEAKERS:
            raise ValueError(
                f"message {number} has the {speaker} {_shown(who)}, but it must be one of {', '.join(SPEAKERS)}"
            )
        return {"role": SPEAKERS[who], "content": message.get(text)}

    def _in_template(self, chat: Chat) -> dict[str, str]:
        """Return a chat of one question as the fields of a template."""
        *before, answer = chat.messages
        values = {"prompt" if each["role"] == "user" else each["role"]: each["content"] for each in before}
        values[RESPONSE] = answer["content"]
        if len(values) <= len(before) or chat.tools or values.keys() != set(self.template):
            raise ValueError(
                f"a chat of {', '.join(each['role'] for each in chat.messages)}, which the template has no place for: "
                f"it names {', '.join(self.template)} (template: chat takes all of it)"
            )
        return values


def guess(record: Mapping[str, Any], template: tuple[str, ...], fields: Mapping[str, str]) -> Reading:
    """Return how records are read, by the fields of the first one.

    :param template: names of the fields of the adapter's own template; empty for the chat template
    :param fields: what the data set calls a field, where it has another name
    :raises ValueError: if that cannot be told
    """
    # Plain text would not be put into a template.
    names = ("prompt", *NAMES[: NAMES.index("text")]) if template else NAMES
    fitting = [reading for name in names if (reading := Reading(name, template, fields)).has_fields(record)]
    if fitting:
        return fitting[0].among_exchanged(record)
    if {fields.get(each, each) for each in NEEDED[PREFERENCE]} <= record.keys():
        raise ValueError(
            f"pairs of answers, {CHOSEN} and {REJECTED}, from which an adapter learns by training.objective dpo"
        )
    if template:
        # Then the lines are told what the template names.
        return Reading("prompt", template, fields)
    needed = "; ".join(f"{name}: {', '.join(NEEDED[name])}" for name in NAMES)
    raise ValueError(
        f"no known format: it has the fields {', '.join(record) or '(none)'}, but needs those of one of these "
        f"({needed}); where they have other names, say so in the adapter's fields"
    )


def known(name: str, template: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that the adapter's fields may map: all of a format's, or, with a template, its own as well."""
    return (*template, *NEEDED[name], *OPTIONAL.get(name, ()))


def content(number: int, value: object) -> str:
    """Return the text of a message, whose content may come in parts: [{"type": "text", "text": "…"}]."""
    parts = [{"type": "text", "text": value}] if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts:
        raise ValueError(f"message {number} has no content")
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError(f"message {number} has a part that is no text: only text can be read")
    text = "".join(part["text"] for part in parts)
    if not text.strip():
        raise ValueError(f"message {number} has no content")
    return text


def _chat(system: str, question: str, answer: str) -> Chat:
    spoken = [("system", system), ("user", question), (ASSISTANT, answer)]
    return Chat([{"role": role, "content": text} for role, text in spoken if text])


def _message(number: int, message: Mapping[str, Any]) -> dict[str, Any]:
    role = message.get("role")
    if role not in ROLES:
        raise ValueError(f"message {number} has the role {_shown(role)}, but it must be one of {', '.join(ROLES)}")
    cleaned = {name: value for name, value in message.items() if value is not None}
    if role == ASSISTANT and cleaned.get("tool_calls"):
        cleaned["tool_calls"] = [_call(number, call) for call in _listed(number, cleaned["tool_calls"])]
        # Who calls a tool need not say anything.
        cleaned["content"] = content(number, cleaned["content"]) if cleaned.get("content") else ""
    else:
        cleaned.pop("tool_calls", None)
        cleaned["content"] = content(number, cleaned.get("content"))
    return cleaned


def _listed(number: int, calls: object) -> list:
    if not isinstance(calls, list):
        raise ValueError(f"message {number} has tool_calls that are {_shown(calls)}, not a list")
    return calls


def _call(number: int, call: object) -> dict[str, Any]:
    """Return a call of a tool, whose arguments may come as JSON in a text, as templates take it."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError(f"message {number} calls a tool by {_shown(call)}, which has no function with a name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = strict_json.parse(arguments)
        except ValueError as error:
            raise ValueError(f"message {number} calls {function['name']!r} with arguments that are {error}") from error
    if not isinstance(arguments, dict):
        raise ValueError(f"message {number} calls {function['name']!r} with {_shown(arguments)}, not an object")
    # A call without an "id" has none in the template either.
    own = {name: value for name, value in call.items() if name in ("id",)} if isinstance(call, dict) else {}
    return {**own, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _tools(value: object) -> list[dict[str, Any]]:
    """Return the tools of a chat, which the hub's data sets also have as JSON in a text."""
    if isinstance(value, str) and value.strip():
        try:
            value = strict_json.parse(value)
        except ValueError as error:
            raise ValueError(f"tools that are {error}") from error
    tools = value or []
    if not isinstance(tools, list) or not all(isinstance(each, dict) for each in tools):
        raise ValueError(f"tools that are {_shown(tools)}, not a list of objects")
    return tools


def _check_order(messages: list[dict[str, Any]]) -> None:
    if messages[-1]["role"] != ASSISTANT:
        raise ValueError(f"the last message is the {messages[-1]['role']}'s, but there must be an answer to learn")
    if messages[0]["role"] == ASSISTANT:
        raise ValueError("the first message is the assistant's, so that it answers nothing")
    if any(each["role"] == "system" for each in messages[1:]):
        raise ValueError("the system's message is not the first one")


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
