"""Prepared examples: what `prepare` writes, and what fine-tuning and evaluation read."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict


class Example(TypedDict):
    """One line of a prepared data set.

    :param prompt: all that the model is given, template included
    :param completion: what it has to write, up to and including the end of the turn
    :param input_ids: token ids of both, prompt first
    :param prompt_tokens: how many of them are the prompt's
    """

    prompt: str
    completion: str
    input_ids: list[int]
    prompt_tokens: int


def read(path: Path) -> list[Example]:
    """Read prepared examples, one JSON object a line."""
    # str.splitlines would also split at U+2028 and others, which JSON does not escape.
    with path.open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


def write(path: Path, examples: Iterable[Example]) -> None:
    """Write prepared examples, one JSON object a line."""
    lines = (json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
    path.write_text("".join(lines), encoding="utf-8")
