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
    :param rejected: of a pair, what the completion is preferred to
    :param rejected_ids: token ids of the prompt and that
    """

    prompt: str
    completion: str
    input_ids: list[int]
    prompt_tokens: int
    learned: NotRequired[list[tuple[int, int]]]
    rejected: NotRequired[str]
    rejected_ids: NotRequired[list[int]]


def sides(example: Example) -> list[Example]:
    """Return an example itself, or the two of a pair: the prompt with the chosen answer, and with the rejected one."""
    if "rejected_ids" not in example:
        return [example]
    answers = (example["completion"], example["input_ids"]), (example["rejected"], example["rejected_ids"])
    prompt, given = example["prompt"], example["prompt_tokens"]
    return [Example(prompt=prompt, completion=text, input_ids=ids, prompt_tokens=given) for text, ids in answers]


def length(example: Example) -> int:
    """Return the tokens of an example, of a pair those of the longer side."""
    return max(len(side["input_ids"]) for side in sides(example))


def texts(examples: Iterable[Example]) -> list[str]:
    """Return what a device is given of examples: their prompts, and the prompts with what follows them."""
    return [
        text
        for each in examples
        for side in sides(each)
        for text in (side["prompt"], side["prompt"] + side["completion"])
    ]
