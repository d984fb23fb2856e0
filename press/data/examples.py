"""Prepared examples: what `prepare` writes, and what fine-tuning and evaluation read."""

from collections.abc import Iterable
from typing import NotRequired, TypedDict


class Example(TypedDict):
    """One line of a prepared data set.

    :param prompt: all that the model is given, template included
    :param completion: what it has to write, up to and including the end of the turn
    :param input_ids: token ids of both, prompt first
    :param prompt_tokens: how many of them are the prompt's
    :param learned: answers in the prompt that are learned, too, each by its first token and the one behind its last
    """

    prompt: str
    completion: str
    input_ids: list[int]
    prompt_tokens: int
    learned: NotRequired[list[tuple[int, int]]]


def texts(examples: Iterable[Example]) -> list[str]:
    """Return what a device is given of examples, their prompts, and the prompts with what follows them."""
    return [text for each in examples for text in (each["prompt"], each["prompt"] + each["completion"])]
