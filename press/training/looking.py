"""An example as the model reads it: its text in pieces, each with whether it is learned and whether it is control."""

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from press.data import examples, tokens
from press.data.examples import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Piece(NamedTuple):
    """Tokens of one kind, one after the other.

    :param text: without a character that a terminal would take for a command
    """

    text: str
    learned: bool
    control: bool


def flags(example: Example, response_only: bool) -> list[bool]:
    """Return for each token of an example whether it is learned."""
    learned = [not response_only or place >= example["prompt_tokens"] for place in range(len(example["input_ids"]))]
    for start, end in example.get("learned", ()):
        learned[start:end] = [True] * (end - start)
    return learned


def pieces(tokenizer: "PreTrainedTokenizerBase", example: Example, learned: list[bool]) -> Iterator[Piece]:
    """Yield an example's text as the model reads it.

    :param learned: whether each token is
    """
    control, place = tokens.control(tokenizer), 0
    kinds = [(each, token in control) for token, each in zip(example["input_ids"], learned, strict=True)]
    for (is_learned, is_control), run in groupby(kinds):
        count = len(list(run))
        text = str(tokenizer.decode(example["input_ids"][place : place + count]))
        yield Piece(visible(text), is_learned, is_control)
        place += count


def sides(example: Example) -> list[tuple[str, Example]]:
    """Return an example with nothing to say of it, or both answers of a pair, each with which it is."""
    variants = examples.sides(example)
    return list(zip([", chosen", ", rejected"] if len(variants) > 1 else [""], variants, strict=True))


def visible(text: str) -> str:
    """Return text for a terminal, which takes no character of it for a command."""
    return "".join(
        "⏎\n" if each == "\n" else each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )
