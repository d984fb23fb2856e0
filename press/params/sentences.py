"""Sentences for the values of params.yaml that do not fit."""

import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]

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
    parts = [str(part) for part in (written or loc) if part != "[key]"]
    key = ".".join(parts)
    if kind == "missing":
        return f"{key} is missing"
    if kind == "extra_forbidden":
        return f"{key} is not a known key, only {', '.join(_known_keys(loc[:-1], block))}"
    if loc[-1:] == ("[key]",):
        parent = ".".join(parts[:-1])
        expected = patterns[detail["ctx"]["pattern"]] if kind == "string_pattern_mismatch" else EXPECTED["string_type"]
        return f"{parent} has the key {value!r}, but a key must be {expected}"
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
        expected += NOT_OFFERED.get((parts[-1], value), "")
    if kind == "float_type" and isinstance(value, str):
        expected += ": write it without quotes"
    return f"{key} is {shown(value)}, but must be {expected}"


def _known_keys(loc: tuple[str | int, ...], block: type[BaseModel]) -> list[str]:
    """Return the keys of the block at a location, where an adapter or target stands for all of them."""
    found: Any = block
    for part in loc:
        is_block = isinstance(found, type) and issubclass(found, BaseModel)
        found = found.model_fields[part].annotation if is_block else get_args(found)[1]
    return list(found.model_fields)


def shown(value: object) -> str:
    """Return a value in short, as YAML and Python write it."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
