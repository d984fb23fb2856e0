"""The records of a data set, whatever they lie in: JSON Lines, JSON, CSV, Parquet, any of them in gzip, or a folder.

They are read one after the other, so that a file may be larger than the memory; JSON alone is read as a whole.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from press.core import files, paths
from press.core.errors import UserError
from press.data import jsonl, strict_json

GZIP = ".gz"
# Bytes of a file that is read as a whole, and characters of a field of CSV.
WHOLE, FIELD = 1 << 28, 1 << 26
# Rows of Parquet that are read at once.
ROWS = 1024
# What lies beside the files of a data set, and is none of them: the hub's, and prose, by the beginning of its name.
OF_HUB = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
PROSE = ("readme", "license", "licence")


class Record(NamedTuple):
    """A record of a data set, or what is wrong with it.

    :param number: of its line, or, where records have no lines, of the record; from 1
    :param fields: None if the record is wrong
    :param wrong: why it is none
    """

    number: int
    fields: dict[str, Any] | None
    wrong: str = ""


def read(path: Path) -> Iterator[tuple[Path, str, Iterator[Record]]]:
    """Yield the files of a data set, each with what its records are called and with the records.

    :raises UserError: if there is no such file, or one of another kind
    """
    for file in shards(path):
        unit, reader = KINDS[_kind(file)]
        yield file, unit, _checked(file, reader)


def shards(path: Path) -> list[Path]:
    """Return the files of a data set: the file itself, or those of a folder in the order of their names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path} is no file and no folder: mend the adapter's data in params.yaml")
    inside = [each for each in sorted(path.rglob("*")) if not _is_beside(each.relative_to(path))]
    for each in inside:
        if place := paths.outside(each):
            raise UserError(f"{each} leads out of the project, to {place}: copy it in")
        # Neither a folder that is a link nor what is no file would be read.
        if not each.is_file() and (each.is_symlink() or not each.is_dir()):
            raise UserError(f"{each} is no plain file or folder: put the files that are meant in its place")
    data_files = [each for each in inside if each.is_file()]
    if not data_files:
        raise UserError(f"{path} is a folder without a file: it needs {_known()}")
    return data_files


def digest(path: Path) -> str:
    """Return the SHA-256 of a data set: of its file, or of its folder."""
    return files.folder_digest(path) if path.is_dir() else files.sha256(path)


def _is_beside(path: Path) -> bool:
    name = path.name.lower()
    is_prose = name.startswith(PROSE) and _suffix(path) not in KINDS
    return any(part.startswith(".") for part in path.parts) or name in OF_HUB or is_prose


def _kind(path: Path) -> str:
    suffix = _suffix(path)
    if suffix not in KINDS:
        raise UserError(f"{path} is a data set of an unknown kind, by its name: it needs {_known()}")
    return suffix


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(GZIP)).suffix


def _known() -> str:
    return f"a file whose name ends with {', '.join(KINDS)}, or one of these and {GZIP}"


def _checked(path: Path, reader: Callable[[BinaryIO, Path], Iterator[Record]]) -> Iterator[Record]:
    with _explained(path), path.open("rb") as raw:
        if path.name.lower().endswith(GZIP):
            with gzip.open(raw) as file:
                yield from reader(cast(BinaryIO, file), path)
        else:
            yield from reader(raw, path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged, or no gzip file ({error}): pack it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


def _of_lines(file: BinaryIO, path: Path) -> Iterator[Record]:
    for number, line in jsonl.filled(file, path):
        try:
            yield Record(number, jsonl.parse(line))
        except ValueError as error:
            yield Record(number, None, str(error))


def _of_json(file: BinaryIO, path: Path) -> Iterator[Record]:
    try:
        values = strict_json.parse(_whole(file, path).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start + 1})") from error
    except ValueError as error:
        raise UserError(f"{path} is {error}") from error
    if not isinstance(values, list):
        raise UserError(f"{path} is a JSON {type(values).__name__}, not a list of objects (JSON Lines end with .jsonl)")
    for number, value in enumerate(values, start=1):
        if isinstance(value, dict):
            yield Record(number, value)
        else:
            yield Record(number, None, f"a JSON {type(value).__name__}, not an object")


def _of_csv(file: BinaryIO, path: Path, delimiter: str = ",") -> Iterator[Record]:
    csv.field_size_limit(FIELD)
    rows = csv.reader(_text(file, path), delimiter=delimiter, strict=True)
    header: list[str] = []
    number = 1
    try:
        for row in rows:
            if not row:
                pass
            elif not header:
                header = _header(row, path)
            elif len(row) != len(header):
                yield Record(number, None, f"{len(row)} fields, but the header names {len(header)}")
            else:
                yield Record(number, dict(zip(header, row, strict=True)))
            number = rows.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path} line {number} is no CSV ({error})") from error


def _of_tsv(file: BinaryIO, path: Path) -> Iterator[Record]:
    return _of_csv(file, path, "\t")


def _text(file: BinaryIO, path: Path) -> Iterator[str]:
    for number, line in jsonl.numbered(file, path):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} line {number}: not UTF-8 (byte {error.start + 1})") from error


def _header(row: list[str], path: Path) -> list[str]:
    if len(set(row)) < len(row) or "" in row:
        raise UserError(f"{path} line 1: the header is {', '.join(map(repr, row))}, but must name each field once")
    return row


def _of_parquet(file: BinaryIO, path: Path) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    source = file if isinstance(file, io.BufferedReader) else io.BytesIO(_whole(file, path))
    try:
        table = parquet.ParquetFile(source)
        names = table.schema_arrow.names
        if len(set(names)) < len(names):
            raise UserError(f"{path} has two columns of one name, among {', '.join(names)}")
        number = 0
        for batch in table.iter_batches(ROWS):
            for row in _values(batch, path, number):
                number += 1
                yield _row(number, row)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged, or no Parquet file ({error})") from error


def _values(batch: Any, path: Path, before: int) -> list[dict[str, Any]]:
    """Return a batch of Parquet in Python's own types, which have not all that Parquet has."""
    import pyarrow

    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        raise
    # Such as of a date behind the year 9999, an unknown time zone, or a struct with two fields of one name.
    except (pyarrow.ArrowException, ValueError, OverflowError, KeyError) as error:
        rows = f"rows {before + 1} to {before + batch.num_rows}"
        raise UserError(f"{path} {rows} have a value that Python has not ({error}): leave its column out") from error


def _row(number: int, row: dict[str, Any]) -> Record:
    """Return a row of Parquet as the object that JSON Lines would have."""
    for name, value in row.items():
        if isinstance(value, dict | list):
            try:
                strict_json.parse(json.dumps(value))
            except (TypeError, ValueError, RecursionError) as error:
                return Record(number, None, f"field {name!r} is nothing that JSON has ({error})")
    return Record(number, _present(row))


def _present(value: Any) -> Any:
    """Return a value without nulls: a column has a value in each row, and a struct all of its fields."""
    if isinstance(value, dict):
        return {name: _present(each) for name, each in value.items() if each is not None}
    return [_present(each) for each in value] if isinstance(value, list) else value


def _whole(file: BinaryIO, path: Path) -> bytes:
    content = file.read(WHOLE + 1)
    if len(content) > WHOLE:
        raise UserError(
            f"{path} has more than {WHOLE >> 20} MiB, and would be read as a whole: make JSON Lines of it (.jsonl), or "
            "Parquet without gzip, which are read piece by piece"
        )
    return content


# By the end of a file's name: what its records are called, and what reads them.
KINDS: dict[str, tuple[str, Callable[[BinaryIO, Path], Iterator[Record]]]] = {
    ".jsonl": ("line", _of_lines),
    ".ndjson": ("line", _of_lines),
    ".json": ("item", _of_json),
    ".csv": ("line", _of_csv),
    ".tsv": ("line", _of_tsv),
    ".parquet": ("row", _of_parquet),
}
# Of what a data set's repository on the hub may have, what `datasets` reads text from, packed or not.
HUB_KINDS = (*KINDS, ".arrow", ".txt")
HUB_FILES = tuple(f"{kind}{packed}" for kind in HUB_KINDS for packed in ("", ".gz", ".xz"))
