"""JSON as every reader takes it, https://www.rfc-editor.org/rfc/rfc8259, of what a model or a person wrote.

Python's own reader keeps the last of two values with one name and takes NaN, halves of surrogate pairs and any depth;
another parser refuses such a text, or reads something else in it.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

# Arrays and objects in each other. A schema of that depth can still be checked without an end of Python's stack.
DEPTH = 64
TOO_DEEP = f"JSON with more than {DEPTH} levels of arrays and objects"
# Halves of surrogate pairs, and the escapes that may be some.
HALF = re.compile(r"[\ud800-\udfff]|\\u[dD][89a-fA-F]")


def parse(text: str) -> Any:
    """Return the value of a JSON text.

    :raises ValueError: with what is wrong about it
    """
    if text.startswith("\ufeff"):
        raise ValueError("not JSON (it begins with a byte order mark, U+FEFF: remove it)")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if error.lineno > 1 else ""
        raise ValueError(f"not JSON ({error.msg.removesuffix(' at')} at {line}column {error.colno})") from error
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    # Millions of lines are read: what a text cannot have is not looked for.
    if text.count("[") + text.count("{") > DEPTH:
        _check_depth(value)
    if HALF.search(text):
        _check_characters(value)
    return value


def same(one: object, other: object) -> bool:
    """Return whether two values are the same JSON: the order of names does not count, true is not 1, and 1.0 is 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def texts(value: object) -> list[str]:
    """Return all texts of a value, the names in it among them."""
    collected: list[str] = []
    _collect(value, collected)
    return collected


def _collect(value: object, collected: list[str]) -> None:
    if isinstance(value, str):
        collected.append(value)
    elif isinstance(value, dict):
        for name, each in value.items():
            collected.append(name)
            _collect(each, collected)
    elif isinstance(value, list):
        for each in value:
            _collect(each, collected)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"JSON with the name {json.dumps(name)} twice in one object")
        members[name] = value
    return members


def _no_number(text: str) -> float:
    raise ValueError(f"not JSON ({text} is no number)")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"JSON with the number {text[:20]}, which is too large")
    return value


def _integer(text: str) -> int:
    _finite(text)
    return int(text)


def _check_characters(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("JSON with half of a surrogate pair, which is no character") from error


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEPTH):
        level = [child for each in level for child in _children(each) if isinstance(child, dict | list)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _children(value: object) -> Iterable:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
