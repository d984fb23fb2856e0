"""Whatever the records of a data set lie in, they are the same; and what is damaged is named with its place."""

import csv
import errno
import gzip
import io
import json
import os
import re
from pathlib import Path
from unittest import mock

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from press.core.errors import UserError
from press.data import jsonl, records

RECORDS = [{"prompt": 'a, "b"\n\u2028c', "response": "é 🌍 \x85 d"}, {"prompt": "e", "response": "f"}]


def as_jsonl(values: list[dict]) -> bytes:
    return b"".join(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in values)


def as_json(values: list[dict]) -> bytes:
    return json.dumps(values, ensure_ascii=False, indent=1).encode()


def as_csv(values: list[dict], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(values[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(values)
    return text.getvalue().encode()


def as_tsv(values: list[dict]) -> bytes:
    return as_csv(values, "\t")


def as_parquet(values: list[dict]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(values), file)
    return file.getvalue()


WRITERS = {".jsonl": as_jsonl, ".json": as_json, ".csv": as_csv, ".tsv": as_tsv, ".parquet": as_parquet}


def found(path: Path) -> list[dict | str]:
    """Return the records of a data set, or what is wrong with each."""
    return [record.fields or record.wrong for _, _, some in records.read(path) for record in some]


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        found(path)
    return str(caught.value).replace(str(path), "PATH")


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_records_are_the_same_in_any_file(tmp_path, suffix, packed):
    content = WRITERS[suffix](RECORDS)
    path = tmp_path / f"data{suffix}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(content) if packed else content)
    assert found(path) == RECORDS


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_a_byte_order_mark_before_a_file_is_no_text(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(b"\xef\xbb\xbf" + WRITERS[suffix](RECORDS))
    assert found(path) == RECORDS


@given(
    st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))] * 2), min_size=1)
)
def test_whatever_stands_in_a_field_of_csv_is_read_as_it_was_written(tmp_path_factory, rows):
    values = [{"prompt": prompt, "response": response} for prompt, response in rows]
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(as_csv(values))
    assert found(path) == values


def test_a_folder_has_shards_in_the_order_of_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("shards")
    for name, value in (("b.jsonl", 2), ("a/z.json", 1), ("c.csv.gz", 3)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = Path(name.removesuffix(".gz")).suffix
        content = WRITERS[suffix]([{"text": str(value)}])
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    for name in ("README.md", ".gitattributes", "LICENSE", "LICENCE-MIT.txt", "dataset_infos.json", ".cache/x.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no data", encoding="utf-8")
    assert found(folder) == [{"text": "1"}, {"text": "2"}, {"text": "3"}]


def test_a_folder_without_data_or_with_a_link_out_of_the_project_is_refused(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert refused(Path("data")).startswith("PATH is a folder without a file: it needs a file whose name ends with .js")
    (tmp_path / "data/a.jsonl").symlink_to("/etc/hostname")
    assert refused(Path("data")) == "PATH/a.jsonl leads out of the project, to /etc/hostname: copy it in"


def test_nothing_in_a_folder_is_left_out_silently(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    # Not a licence.
    Path("data/license-questions.jsonl").write_bytes(as_jsonl(RECORDS))
    assert found(Path("data")) == RECORDS
    Path("elsewhere").mkdir()
    Path("data/linked").symlink_to("../elsewhere")
    assert refused(Path("data")) == "PATH/linked is no plain file or folder: put the files that are meant in its place"
    Path("data/linked").unlink()
    Path("data/b.jsonl").symlink_to("nowhere.jsonl")
    assert refused(Path("data")).startswith("PATH/b.jsonl is no plain file or folder")
    Path("data/b.jsonl").unlink()
    os.mkfifo("data/pipe.jsonl")
    assert refused(Path("data")).startswith("PATH/pipe.jsonl is no plain file or folder")


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "data.jsonl"
    path.write_bytes(as_jsonl(RECORDS))
    monkeypatch.setattr(Path, "open", mock.Mock(side_effect=PermissionError(errno.EACCES, "Permission denied")))
    assert refused(path) == "PATH cannot be read (Permission denied)"


@pytest.mark.parametrize("name", ["data.xlsx", "data", "data.gz", "data.jsonl.zip", "data.jsonl.bz2"])
def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"")
    assert refused(path) == (
        "PATH is a data set of an unknown kind, by its name: it needs a file whose name ends with .jsonl, .ndjson, "
        ".json, .csv, .tsv, .parquet, or one of these and .gz"
    )


WRONG = [
    (".json", b'{"a": 1}', "PATH is a JSON dict, not a list of objects (JSON Lines end with .jsonl)"),
    (".json", b'[{"a": 1}', "PATH is not JSON (Expecting ',' delimiter at column 10)"),
    (".json", b'[{"a": 1, "a": 2}]', 'PATH is JSON with the name "a" twice in one object'),
    (".json", b'[{"a": "\\ud83c"}]', "PATH is JSON with half of a surrogate pair, which is no character"),
    (".json", b"[" * 100 + b"]" * 100, "PATH is JSON with more than 64 levels of arrays and objects"),
    (".json", b'[{"a": "\xe9"}]', "PATH is not UTF-8 (byte 9)"),
    (".csv", b"a,b\n1,\xe9\n", "PATH line 2: not UTF-8 (byte 3)"),
    (".csv", b"a,a\n1,2\n", "PATH line 1: the header is 'a', 'a', but must name each field once"),
    (".csv", b"a,\n1,2\n", "PATH line 1: the header is 'a', '', but must name each field once"),
    (".csv", b'a,b\n1,2\n"3,4\n', "PATH line 3 is no CSV (unexpected end of data)"),
    (".csv", b'a,b\n1,"2"3\n', "PATH line 2 is no CSV (',' expected after '\"')"),
    (".parquet", b"PAR1", "PATH is damaged, or no Parquet file ("),
    (".parquet", as_parquet(RECORDS)[:-9], "PATH is damaged, or no Parquet file ("),
    (".jsonl.gz", b'{"a": 1}\n', "PATH is damaged, or no gzip file ("),
    (".jsonl.gz", gzip.compress(as_jsonl(RECORDS))[:-9], "PATH is damaged, or no gzip file ("),
    (".parquet.gz", gzip.compress(as_parquet(RECORDS))[:40], "PATH is damaged, or no gzip file ("),
]


@pytest.mark.parametrize(("suffix", "content", "sentence"), WRONG, ids=[f"{each[0]} {each[2][:40]}" for each in WRONG])
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, suffix, content, sentence):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(content)
    assert refused(path).startswith(sentence)


def test_records_that_are_wrong_are_told_by_their_numbers(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b'a,b\n\n"1\n2",3\n4\n5,6\n7,8,9\n')
    some = [(record.number, record.fields, record.wrong) for _, _, each in records.read(path) for record in each]
    assert some == [
        (3, {"a": "1\n2", "b": "3"}, ""),
        (5, None, "1 fields, but the header names 2"),
        (6, {"a": "5", "b": "6"}, ""),
        (7, None, "3 fields, but the header names 2"),
    ]
    path = tmp_path / "data.json"
    path.write_bytes(b'[{"a": 1}, 2, [3]]')
    assert found(path) == [{"a": 1}, "a JSON int, not an object", "a JSON list, not an object"]


def test_parquet_without_a_value_has_no_field_and_what_json_has_not_is_named(tmp_path):
    path = tmp_path / "data.parquet"
    path.write_bytes(as_parquet([{"a": None, "b": [{"c": 1, "d": None}]}, {"a": "x", "b": [{"c": float("nan")}]}]))
    assert found(path) == [{"b": [{"c": 1.0}]}, "field 'b' is nothing that JSON has (not JSON (NaN is no number))"]
    path.write_bytes(as_parquet([{"b": [b"bytes"]}]))
    assert found(path) == ["field 'b' is nothing that JSON has (Object of type bytes is not JSON serializable)"]


@pytest.mark.parametrize(
    "column",
    [
        pyarrow.array([1 << 30], pyarrow.int32()).cast(pyarrow.date32()),
        pyarrow.array([1 << 55], pyarrow.timestamp("ms")),
        pyarrow.array([1], pyarrow.timestamp("us", "Mars/Base")),
        pyarrow.StructArray.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"]),
    ],
    ids=["date", "time", "time zone", "names"],
)
def test_a_column_of_which_python_has_no_values_is_refused_with_its_rows(tmp_path, column):
    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.table({"text": ["a"], "x": column}), path)
    assert re.fullmatch(
        r"PATH rows 1 to 1 have a value that Python has not \(.+\): leave its column out", refused(path)
    )


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.table([pyarrow.array(["1"]), pyarrow.array(["2"])], names=["a", "a"]), path)
    assert refused(path) == "PATH has two columns of one name, among a, a"


def test_what_is_read_as_a_whole_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "WHOLE", 1 << 20)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b" " * ((1 << 20) + 1)))
    assert refused(path).startswith("PATH has more than 1 MiB, and would be read as a whole: make JSON Lines of it")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_lines_are_the_same_however_a_file_is_read(tmp_path, monkeypatch, end, size):
    monkeypatch.setattr(jsonl, "CHUNK", size)
    path = tmp_path / "data.jsonl"
    path.write_bytes(end.join([b'{"a": 1}', b"", b'{"b": 2}', b'{"c": 3}']))
    assert list(jsonl.lines(path)) == [(1, b'{"a": 1}'), (3, b'{"b": 2}'), (4, b'{"c": 3}')]


def test_a_line_without_an_end_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "LONGEST", 1 << 20)
    path = tmp_path / "data.jsonl"
    path.write_bytes(b" " * (5 << 20))
    assert re.fullmatch(r"PATH has a line of more than 1 MiB: let each object have its own line", refused(path))
