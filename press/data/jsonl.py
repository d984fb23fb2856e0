"""JSON Lines, https://jsonlines.org: one JSON value a line, in UTF-8."""

import codecs
import itertools
import json
import mmap
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from press.core.errors import UserError
from press.data import strict_json

# Bytes that are read at once, and that a line may have.
CHUNK, LONGEST = 1 << 20, 1 << 26


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number, from 1, and the bytes of each line that is not blank."""
    with path.open("rb") as file:
        yield from filled(file, path)


def filled(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each line of an open file that is not blank.

    :param path: of the file, for the sentence
    """
    for number, line in numbered(file, path):
        if line.strip():
            yield number, line.rstrip(b"\r\n")


def numbered(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number, from 1, and the bytes of each line of a file, with what ends it.

    Lines end with a line feed, a carriage return or both, and at none of the characters besides at which str.splitlines
    splits, such as U+2028, which JSON does not escape. A byte order mark, which Windows puts before a file, is no text.

    :raises UserError: if a line is too long to be one
    """
    return enumerate(_lines(file, path), start=1)


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    rest = file.read(CHUNK).removeprefix(codecs.BOM_UTF8)
    while chunk := file.read(CHUNK):
        # The last one may go on, and so may a carriage return that ends it.
        *whole, rest = (rest + chunk).splitlines(keepends=True)
        yield from whole
        if len(rest) > LONGEST:
            raise UserError(f"{path} has a line of more than {LONGEST >> 20} MiB: let each object have its own line")
    yield from rest.splitlines(keepends=True)


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


class Rows:
    """The objects of a file that the pipeline wrote, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._starts = array("q", itertools.accumulate(map(len, file), initial=0))
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._starts[-1] else b""

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return json.loads(self._bytes[self._starts[index] : self._starts[index + 1]])


def write(path: Path, values: Iterable[Mapping]) -> None:
    """Write one object a line."""
    with writing(path) as lines:
        for value in values:
            lines.append(value)


class Lines:
    """A file that objects are appended to, one a line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, value: Mapping) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False) + "\n")
        self._count += 1


@contextmanager
def writing(path: Path) -> Iterator[Lines]:
    """Yield what writes a file line by line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yield Lines(file)
