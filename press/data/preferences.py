"""What a record of preferences says: a prompt with two answers to it, of which one is chosen and the other rejected.

As TRL has it: `prompt`, `chosen` and `rejected`, texts or lists of messages; or `chosen` and `rejected` alone, whole
chats that begin alike and end with the two answers.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from press.data import formats
from press.data.formats import ASSISTANT, CHOSEN, PREFERENCE, REJECTED, Chat
from press.data.templates import RESPONSE

SAME = "chosen and rejected are the same, so that nothing is preferred"


class Pair(NamedTuple):
    """Two answers to one prompt, each with the prompt: chats, or the fields of a template."""

    chosen: Chat | dict[str, str]
    rejected: Chat | dict[str, str]


class Reading(formats.Reading):
    """How records of preferences are read."""

    def __init__(self, template: tuple[str, ...], fields: Mapping[str, str]) -> None:
        super().__init__(PREFERENCE, template, fields)

    def pair(self, record: Mapping[str, Any]) -> Pair:
        """Return what a record says.

        :raises ValueError: if it does not fit the format, or prefers nothing
        """
        for name in self.needed:
            if (own := self.fields.get(name, name)) not in record:
                raise ValueError(self._lacks(own, record))
        pair = Pair(self._side(record, CHOSEN), self._side(record, REJECTED))
        if isinstance(pair.chosen, Chat) and isinstance(pair.rejected, Chat):
            _check_prompts(pair.chosen, pair.rejected)
        elif without_answer(pair.chosen) != without_answer(pair.rejected):
            raise ValueError("chosen and rejected answer different prompts")
        if pair.chosen == pair.rejected:
            raise ValueError(SAME)
        return pair

    def _side(self, record: Mapping[str, Any], name: str) -> Chat | dict[str, str]:
        """Return the prompt with one of the answers."""
        own = self.fields.get(name, name)
        value, prompt = record[own], self._value(record, "prompt")
        if isinstance(value, str) and self.template and not isinstance(prompt, list):
            said = formats.Reading("prompt", self.template, {**self.fields, RESPONSE: own}).said(record)
        else:
            chat = {"messages": self._spoken(record, own, name), "tools": self._value(record, "tools")}
            try:
                said = formats.Reading("messages", self.template).said(chat)
            except ValueError as error:
                raise ValueError(f"{own}: {error}") from error
        assert not isinstance(said, str)
        return said

    def _spoken(self, record: Mapping[str, Any], own: str, name: str) -> list:
        """Return all messages up to one of the answers, not yet checked."""
        value = record[own]
        answer = (
            value if isinstance(value, list) and value else [{"role": ASSISTANT, "content": self._text(record, name)}]
        )
        system = self._optional(record, "system")
        before = [{"role": "system", "content": system}] * bool(system)
        if not _is_answer(answer[0]):
            self._check_prompt(record, own, answer)
            return [*before, *answer]
        prompt = self._value(record, "prompt")
        if isinstance(prompt, list) and prompt:
            return [*before, *prompt, *answer]
        return [*before, {"role": "user", "content": self._text(record, "prompt")}, *answer]

    def _check_prompt(self, record: Mapping[str, Any], own: str, chat: list) -> None:
        """Refuse a prompt that is not said in the chat beside it, which has the prompt itself."""
        prompt = self._value(record, "prompt")
        if not all(isinstance(each, dict) for each in chat):
            return
        name, said = self.fields.get("prompt", "prompt"), [each.get("content") for each in chat]
        if prompt is not None and not isinstance(prompt, str | list):
            raise ValueError(f"field {name!r} is neither a text nor a list of messages")
        if prompt and not (prompt in said if isinstance(prompt, str) else chat[: len(prompt)] == prompt):
            raise ValueError(f"field {name!r} is not said in {own!r}, which has a whole chat: leave one of them out")


def without_answer(side: Chat | dict[str, str]) -> Any:
    """Return all of a prompt with its answer but the answer."""
    if isinstance(side, Chat):
        return [*side.messages[:-1], *side.tools]
    return {name: side[name] for name in sorted(side) if name != RESPONSE}


def _is_answer(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") == ASSISTANT


def _check_prompts(chosen: Chat, rejected: Chat) -> None:
    """Refuse chats that part before their last answers."""
    one, other = chosen.messages[:-1], rejected.messages[:-1]
    if one != other:
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
        number = len(list(alike)) + 1
        raise ValueError(f"chosen and rejected part at message {number}: they may differ in their last answers only")
