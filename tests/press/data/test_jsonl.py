"""What was written is read, and a line that is wrong says what is wrong with it."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.data import jsonl

# Half a surrogate pair is no character, so that no file in UTF-8 holds one.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(TEXT, VALUES, max_size=4), max_size=5))
def test_what_was_written_is_read(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "written.jsonl"
    jsonl.write(path, values)
    assert jsonl.read(path) == values
    assert path.read_bytes().count(b"\n") == len(values)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "🌍"])
def test_a_character_at_which_python_splits_lines_ends_none(tmp_path, character):
    values = [{"text": f"a{character}b"}, {f"key{character}": 1}]
    path = tmp_path / "odd.jsonl"
    jsonl.write(path, values)
    assert jsonl.read(path) == values
    path.write_text(json.dumps(values[0], ensure_ascii=False), encoding="utf-8")
    assert jsonl.read(path) == values[:1]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "not ended"])
def test_lines_end_with_a_line_feed_a_carriage_return_or_both(tmp_path, end, last):
    path = tmp_path / "ends.jsonl"
    path.write_bytes(end.join([b'{"a": 1}', b'{"a": 2}']) + (end if last else b""))
    assert list(jsonl.lines(path)) == [(1, b'{"a": 1}'), (2, b'{"a": 2}')]
    assert jsonl.read(path) == [{"a": 1}, {"a": 2}]


def test_a_byte_order_mark_before_a_file_is_no_text(tmp_path):
    path = tmp_path / "windows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n', encoding="utf-8-sig")
    assert list(jsonl.lines(path)) == [(1, b'{"a": 1}'), (2, b'{"a": 2}')]


def test_blank_lines_are_left_out_and_counted(tmp_path):
    path = tmp_path / "blank.jsonl"
    path.write_bytes(b'\n{"a": 1}\n  \t\n\n{"a": 2}\n\n')
    assert [number for number, _ in jsonl.lines(path)] == [2, 5]
    path.write_bytes(b"")
    assert jsonl.read(path) == []


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"a": "caf\xe9"}', "not UTF-8 (byte 11)"),
        (b'{"a": 1', "not JSON (Expecting ',' delimiter at column 8)"),
        (b"a,b", "not JSON (Expecting value at column 1)"),
        (b'{"a": 1} {"b": 2}', "not JSON (Extra data at column 10)"),
        (b"[1]", "a JSON list, not an object"),
        (b'"a"', "a JSON str, not an object"),
        (b"null", "a JSON NoneType, not an object"),
        (b'{"a": 1, "a": 2}', 'JSON with the name "a" twice in one object'),
        (b'{"a": NaN}', "not JSON (NaN is no number)"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON (it begins with a byte order mark, U+FEFF: remove it)"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8 (byte 1)"),
    ],
)
def test_a_line_that_is_no_object_says_what_it_is(line, sentence):
    with pytest.raises(ValueError, match=rf"^{re.escape(sentence)}$"):
        jsonl.parse(line)
