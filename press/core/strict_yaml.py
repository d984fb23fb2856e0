"""YAML as DVC reads it, and only where every other reader of YAML takes it for the same.

DVC reads params.yaml by ruamel.yaml, as YAML 1.2; many programs read YAML 1.1, in which 010 is 8 and `yes` is true.
Whatever the two versions, or two libraries, take for different values is refused, and so is what could be overlooked: a
key that comes twice, an alias that lets a change of one block change another, a value with a tag.
"""

import contextlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.error import MarkedYAMLError, StringMark
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, DocumentStartEvent, NodeEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from press.core.errors import UserError

# Levels of blocks and lists in each other: what reads them further, such as pydantic and jsonschema, calls itself.
DEEPEST = 64
# Mistakes that are told at once.
SHOWN = 10
TAG = "tag:yaml.org,2002:"
NULL = f"{TAG}null"
JSON_TAGS = {f"{TAG}{name}" for name in ("null", "bool", "int", "float", "str")}
NUMBERS = {f"{TAG}{name}" for name in ("int", "float")}
# Without octals, hexadecimals, minutes and underscores; infinities and NaN are refused where a number is wanted.
PLAIN_NUMBER = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.inf|\.nan", re.IGNORECASE
)
# What can be too large, at once or in its exponent.
DECIMAL = re.compile(r"[-+]?\.?[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?")
# More than any number of 64 bits has.
DIGITS = 40
# A number as DVC and a search write it, which the user cannot change: `dvc exp run --set-param lr=3e-5` writes 3e-05.
WRITTEN = re.compile(r"-?[1-9](?:\.[0-9]+)?e[-+][0-9]{2,3}")
# Booleans of YAML 1.1, though not of PyYAML.
LETTERS = set("yYnN")
NO_TEXT = re.compile("[\0\ud800-\udfff]")


def load(path: Path) -> Any:
    """Return the value in a file.

    :raises UserError: if it is missing, not UTF-8, not YAML, or says what readers of YAML take for different values
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run this in the project's folder") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start + 1})") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Any:
    """Return the value in a file's text; raise UserError as `load` does."""
    try:
        _refuse(path, _unusual(text))
        reader = YAML(typ="safe", pure=True)
        node = reader.compose(text)
        _refuse(path, _misread(node, ()))
        return reader.constructor.construct_document(node) if node else None
    except MarkedYAMLError as error:
        mark = cast(StringMark, error.problem_mark)
        where = f"line {mark.line + 1}, column {mark.column + 1}"
        raise UserError(f"{path} is not valid YAML at {where}: {error.problem}") from error
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def dotted(key: Iterable[object]) -> str:
    """Return how a sentence names a key with those of the blocks around it, with quotes where it would not be plain."""
    return ".".join(text if text.isprintable() and text and " " not in text else repr(text) for text in map(str, key))


def _refuse(path: Path, wrong: Iterator[tuple[int, str]]) -> None:
    """Raise UserError with what is wrong, each after its line."""
    told = [f"{path} line {line + 1}: {reason}" for line, reason in wrong]
    if told:
        more = [f"{path}: and {len(told) - SHOWN} more mistakes"] if len(told) > SHOWN else []
        raise UserError("\n".join(told[:SHOWN] + more))


def _unusual(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines, from 0, with what stands for something else than it says, and why it is refused.

    What is nested too deeply is the last: it cannot be read further.
    """
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        line = event.start_mark.line
        if isinstance(event, DocumentStartEvent) and event.version:
            yield line, "names a version of YAML: leave the line out"
        elif isinstance(event, AliasEvent):
            yield line, f"*{event.anchor} repeats a block, so that a change of one changes both: write it out"
        elif isinstance(event, NodeEvent) and getattr(event, "tag", None):
            yield line, f"{event.tag.replace(TAG, '!!')} is a tag: leave it out, and put text in quotes"
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST:
            yield line, f"is nested more than {DEEPEST} levels deep: make it flatter"
            return


def _misread(node: Node | None, key: tuple[object, ...]) -> Iterator[tuple[int, str]]:
    """Yield the lines, from 0, that readers take for different values, and what is right."""
    if isinstance(node, ScalarNode):
        yield from ((node.start_mark.line, f"{_named(key)} {reason}") for reason in _doubts(node))
    elif isinstance(node, SequenceNode):
        for index, each in enumerate(node.value):
            yield from _misread(each, (*key, index))
    elif isinstance(node, MappingNode):
        lines: dict[str, int] = {}
        for name, value in node.value:
            line, below = name.start_mark.line, (*key, name.value)
            if not isinstance(name, ScalarNode) or str(name.tag) == NULL:
                yield line, f"{_named(key)} has a key that is {'null' if isinstance(name, ScalarNode) else 'no text'}"
                continue
            yield from ((line, f"the key {_named(below)} {reason}") for reason in _doubts(name))
            if name.value in lines:
                yield (
                    line,
                    f"{_named(below)} is there twice, first in line {lines[name.value] + 1}: remove one, or rename it",
                )
            lines.setdefault(name.value, line)
            yield from _misread(value, below)


def _named(key: tuple[object, ...]) -> str:
    return dotted(key) or "it"


def _doubts(node: ScalarNode) -> Iterator[str]:
    """Yield why a scalar does not mean one thing."""
    text = node.value
    if NO_TEXT.search(text):
        yield "has U+0000 or half of a surrogate pair, which is no text: write the character itself"
    elif node.style is not None:
        return
    elif text == "<<":
        yield "merges another block into this one, which YAML 1.2 does not know: write its keys out"
    elif str(node.tag) in NUMBERS and len(text) > DIGITS:
        yield f"is a number of {len(text)} digits, but can have {DIGITS}: put it in quotes if it is text"
    elif str(node.tag) in NUMBERS and DECIMAL.fullmatch(text) and math.isinf(float(text)):
        yield f"is {text}, which is too large a number: put it in quotes if it is text"
    elif _is_doubtful(text, str(node.tag)):
        yield f"is {text}, which not all readers of YAML take for the same: write {_instead(text)}"


def _is_doubtful(text: str, tag: str) -> bool:
    """Tell whether the versions of YAML, or its readers, take a plain scalar for different values.

    :param tag: what DVC takes it for
    """
    if tag != _older_tag(text):
        return not (WRITTEN.fullmatch(text) and text == repr(float(text)))
    return text in LETTERS or tag not in JSON_TAGS or (tag in NUMBERS and not PLAIN_NUMBER.fullmatch(text))


def _instead(text: str) -> str:
    """Return how to write the values that a doubtful scalar may stand for."""
    readings: list[object] = [text in "yY"] if text in LETTERS else []
    # What a resolver takes for a number or a date need not be one, such as -_ and 2020-13-45.
    with contextlib.suppress(ValueError, yaml.YAMLError):
        readings.append(yaml.constructor.SafeConstructor().construct_object(yaml.ScalarNode(_older_tag(text), text)))
    with contextlib.suppress(ValueError, YAMLError):
        readings.append(YAML(typ="safe", pure=True).load(text))
    plain = [json.dumps(each) for each in readings if isinstance(each, bool | int | float)]
    return " or ".join([*dict.fromkeys(plain), f"'{text}'"])


def _older_tag(text: str) -> str:
    """Return what PyYAML, which reads YAML 1.1, takes a plain scalar for."""
    return yaml.resolver.Resolver().resolve(yaml.ScalarNode, text, (True, False))
