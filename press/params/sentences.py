"""Sentences for the values of params.yaml that do not fit."""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from press.core.strict_yaml import dotted

Location = tuple[str | int, ...]
# Of letters in common, from which on a key is taken for a slip of another one.
ALIKE = 0.75

# What a value must be, by pydantic's type of error, with the figures of the error's context.
EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text: put it in quotes",
    "string_too_short": "text that is not empty",
    "list_type": "a list",
    "dict_type": "a block of keys",
    "model_type": "a block of keys",
    "finite_number": "a finite number",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}
# Values that others offer, and why they are not among the literal ones.
NOT_OFFERED = {
    ("objective", "orpo"): " (TRL has orpo in trl.experimental alone, which may change or go at any time: "
    "docs/training.md)",
}


def sentence(
    detail: ErrorDetails, block: type[BaseModel], patterns: Mapping[str, str], written: Location | None = None
) -> str:
    """Say what a value is and what it must be.

    :param detail: one of the errors of a pydantic.ValidationError
    :param block: the model of the whole file
    :param patterns: what each regular expression of the model asks for, in words
    :param written: the key in the file that has the value, if it is another one there
    """
    loc, kind, value = detail["loc"], detail["type"], detail["input"]
    place = tuple(part for part in written or loc if part != "[key]")
    key = dotted(place)
    if kind == "missing":
        return f"{key} is missing"
    if kind == "extra_forbidden":
        return unknown(place, *_known_keys(loc[:-1], block))
    if loc[-1:] == ("[key]",) or kind == "invalid_key":
        parent = dotted(place[:-1])
        value = value if loc[-1] == "[key]" else place[-1]
        expected = patterns[detail["ctx"]["pattern"]] if kind == "string_pattern_mismatch" else EXPECTED["string_type"]
        return f"{parent} has the key {shown(value)}, but a key must be {expected}"
    if kind == "value_error":
        message = detail["msg"].removeprefix("Value error, ")
        return message if "." in message.split()[0] else f"{key}: {message}"
    if kind == "too_short":
        return f"{key} is empty, but must have at least one entry"
    context = detail.get("ctx", {})
    if kind == "string_pattern_mismatch":
        expected = patterns[context["pattern"]]
    elif kind in EXPECTED:
        expected = EXPECTED[kind].format(**context)
    else:
        expected = "text, a number, true, false, null, or a list or block of these"
    if kind == "literal_error" and isinstance(value, str):
        expected += NOT_OFFERED.get((str(place[-1]), value), "")
    if kind == "float_type" and isinstance(value, str):
        expected += ": write it without quotes"
    return f"{key} is {shown(value)}, but must be {expected}"


def unknown(key: Location, known: Sequence[str], below: Iterable[str] = ()) -> str:
    """Say that there is no such key, and which one may be meant.

    :param known: the keys of the block that it is in
    :param below: the keys of the blocks in that block, with dots
    """
    name = str(key[-1])
    meant = difflib.get_close_matches(name, known, 1, ALIKE) or [each for each in below if each.endswith(f".{name}")]
    return f"{dotted(key)} is not a known key, only {', '.join(known)}" + "".join(
        f": is {each} meant?" for each in meant
    )


def _known_keys(loc: Location, block: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Return the keys of the block at a location, where an adapter or target stands for all, and those below."""
    annotation: Any = block
    for part in loc:
        is_block = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        annotation = annotation.model_fields[part].annotation if is_block else get_args(annotation)[1]
    blocks = {name: field.annotation for name, field in annotation.model_fields.items()}
    return list(blocks), [
        f"{name}.{key}"
        for name, kind in blocks.items()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for key in kind.model_fields
    ]


def shown(value: object) -> str:
    """Return a value in short, as YAML and Python write it."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
