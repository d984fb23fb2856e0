"""JSON Lines, https://jsonlines.org: one JSON value a line, in UTF-8."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number, from 1, and the bytes of each line that is not blank.

    Lines end with a line feed, a carriage return or both, and at none of the characters besides at which str.splitlines
    splits, such as U+2028, which JSON does not escape.
    """
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            yield number, line


def parse(line: bytes) -> dict:
    """Return the object in a line.

    :raises ValueError: with what is wrong about it
    """
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start + 1})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}, not an object")
    return value


def read(path: Path) -> list[dict]:
    """Read a file that the pipeline wrote."""
    return [parse(line) for _, line in lines(path)]


def write(path: Path, values: Iterable[Mapping]) -> None:
    """Write one object a line."""
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")
