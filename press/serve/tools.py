"""Tool calls as Hermes and Qwen write them: `<tool_call>{"name": …, "arguments": {…}}</tool_call>` within a text.

A call that must be made is begun in the prompt, and held to a schema after that; otherwise the model decides.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from press.data import strict_json

OPEN, CLOSE = "<tool_call>", "</tool_call>"
# What a prompt ends with whose answer must be a call.
BEGUN = f"{OPEN}\n"


@dataclass(frozen=True)
class Call:
    """A call of a tool; the arguments are JSON."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")


def calls_schema(functions: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of a call of one of some functions.

    :param functions: schemas of their arguments by their names
    """
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/{name}"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name in functions
    ]
    defined = {name: _moved(schema, f"#/$defs/{name}") for name, schema in functions.items()}
    return {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), "$defs": defined}


def _moved(value: Any, place: str) -> Any:
    """Return a schema whose references to itself hold where it is a part of another one."""
    if isinstance(value, list):
        return [_moved(each, place) for each in value]
    if not isinstance(value, dict):
        return value
    moved = {name: _moved(each, place) for name, each in value.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = place + reference[1:]
    return moved


class Reader:
    """The text and the calls of an answer that comes piece by piece.

    What is no call of a tool that there is, such as one that was cut, stays text.

    :param names: of the tools
    :param begun: whether the answer is a call whose beginning is in the prompt
    """

    def __init__(self, names: Sequence[str], *, begun: bool) -> None:
        self._names = names
        self._begun = begun
        self._inside = begun
        self._held = ""
        self.called = False
        # Whether a call was last.
        self._behind = False

    def feed(self, piece: str) -> Iterator[str | Call]:
        """Yield what is certain after one more piece."""
        self._held += piece
        # A call that is held to a schema ends with the answer.
        while not self._begun:
            mark = CLOSE if self._inside else OPEN
            before, matched, after = self._held.partition(mark)
            if not matched:
                break
            self._held = after
            yield from self._closed(before, CLOSE) if self._inside else self._text(before.rstrip())
            self._inside = not self._inside
        if not self._inside:
            certain = self._held[: len(self._held) - _open_at_end(self._held)].rstrip()
            self._held = self._held[len(certain) :]
            yield from self._text(certain)

    def end(self) -> Iterator[str | Call]:
        """Yield what is left when the answer has ended."""
        held, self._held = self._held, ""
        yield from self._closed(held, "") if self._inside else self._text(held.rstrip() if self.called else held)

    def _closed(self, text: str, end: str) -> Iterator[str | Call]:
        call = self._call(text)
        if call:
            self.called = self._behind = True
            yield call
        else:
            yield f"{'' if self._begun else OPEN}{text}{end}"

    def _call(self, text: str) -> Call | None:
        try:
            parsed = strict_json.parse(text)
        except ValueError:
            return None
        match parsed:
            case {"name": str(name), "arguments": dict(arguments)} if name in self._names:
                return Call(name, json.dumps(arguments, ensure_ascii=False))
        return None

    def _text(self, text: str) -> Iterator[str]:
        # What stands between two calls is their layout.
        text = text.lstrip() if self._behind else text
        if text:
            self._behind = False
            yield text


def _open_at_end(text: str) -> int:
    """Return how many characters at a text's end may begin a call."""
    return next((length for length in range(len(OPEN) - 1, 0, -1) if text.endswith(OPEN[:length])), 0)
