"""What two lines of a data set have in common: the same question, nearly the same, the same side of the split."""

import hashlib
import json
from typing import Any

from press.data import formats, preferences, templates
from press.data.formats import Chat
from press.data.preferences import Pair
from press.training.rendering import Said


def answer(said: Said | Pair) -> str:
    """Return what is learned of a line; of a pair, the answer that is chosen."""
    if isinstance(said, Pair):
        return answer(said.chosen)
    if isinstance(said, str):
        return ""
    if isinstance(said, dict):
        return said[templates.RESPONSE]
    last = said.messages[-1]
    return last["content"] if set(last) == {"role", "content"} else json.dumps(last, sort_keys=True)


def asked(said: Said | Pair) -> Any:
    """Return all of a line but the answer."""
    if isinstance(said, str):
        return said
    return preferences.without_answer(said.chosen if isinstance(said, Pair) else said)


def number(said: Said | Pair) -> int:
    """Return a number below 2 ** 64 that a line's content decides, in whatever format it is written.

    Of a pair, its prompt alone decides.
    """
    content: object = asked(said) if isinstance(said, Pair) else said
    if isinstance(said, Chat):
        question, *rest = said.messages
        simple = [question["role"], *(each["role"] for each in rest)] == ["user", formats.ASSISTANT]
        if simple and not said.tools and "tool_calls" not in rest[0]:
            content = {"prompt": question["content"], templates.RESPONSE: rest[0]["content"]}
        else:
            content = {"messages": said.messages, "tools": said.tools}
    return int.from_bytes(hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()[:8])


def digest(value: object) -> bytes:
    """Return a digest of what a line says, or of a part of it."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).digest()
