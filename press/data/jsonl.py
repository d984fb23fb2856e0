"""JSON Lines, https://jsonlines.org: one JSON value a line, in UTF-8."""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from press.data import strict_json


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number, from 1, and the bytes of each line that is not blank.

    Lines end with a line feed, a carriage return or both, and at none of the characters besides at which str.splitlines
    splits, such as U+2028, which JSON does not escape. A byte order mark, which Windows puts before a file, is no text.
    """
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        if line.strip():
            yield number, line


def parse(line: bytes) -> dict:
    """Return the object in a line that a person wrote.

    :raises ValueError: with what is wrong about it
    """
    try:
        value = strict_json.parse(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start + 1})") from error
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}, not an object")
    return value


def read(path: Path) -> list[dict]:
    """Read a file that the pipeline wrote."""
    return [json.loads(line) for _, line in lines(path)]


def write(path: Path, values: Iterable[Mapping]) -> None:
    """Write one object a line."""
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")
