"""Rows of tokens from a file of text: cut equal, or a sentence that names the line or says what is missing."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.core.errors import UserError
from press.data import rows
from press.sources import tokenizers

# One token a byte, besides the marks of a chat.
TOKENIZER = tokenizers.of_bytes()
BLOCK = "evaluate.general"


def write(folder: Path, *values: dict) -> Path:
    path = folder / "text.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def texts(folder: Path, *given: str) -> Path:
    return write(folder, *({"text": text} for text in given))


def complaint(path: Path, count: int = 1, row_tokens: int = 2) -> str:
    """Return what is said of a file, behind its path."""
    with pytest.raises(UserError) as caught:
        rows.cut(path, TOKENIZER, count, row_tokens, BLOCK)
    return str(caught.value).removeprefix(str(path))


def test_texts_are_joined_by_a_blank_line_and_cut_in_equal_rows(tmp_path):
    path = texts(tmp_path, "abc", "de\u2028f", "g" * 40)
    pieces = rows.cut(path, TOKENIZER, 3, 6, BLOCK)
    assert [len(row) for row in pieces] == [6, 6, 6]
    assert TOKENIZER.decode([token for row in pieces for token in row]) == "abc\n\nde\u2028f\n\nggggg"


@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=5), st.integers(1, 5))
def test_no_token_is_lost_or_read_twice(tmp_path_factory, given, row_tokens):
    path = texts(tmp_path_factory.getbasetemp(), *given)
    whole = "".join(f"{text}\n\n" for text in given)
    count = len(whole) // row_tokens
    pieces = rows.cut(path, TOKENIZER, count, row_tokens, BLOCK)
    assert TOKENIZER.decode([token for row in pieces for token in row]) == whole[: count * row_tokens]


def test_too_little_text_is_refused_with_the_figures(tmp_path):
    path = texts(tmp_path, "abc")
    assert complaint(path, 2, 16) == (
        " has 5 tokens, but evaluate.general needs 32 for 2 rows of 16: add text or lower evaluate.general.rows"
    )
    assert len(rows.cut(path, TOKENIZER, 1, 5, BLOCK)) == 1


def test_a_wrong_line_is_named_wherever_it_stands(tmp_path):
    """tests/press/data/test_passages.py has them all."""
    path = write(tmp_path, {"text": "enough for the row"}, {"txt": "a"})
    assert complaint(path).startswith(" line 2: no text")


def test_examples_are_rows_that_are_all_completion(tmp_path):
    path = texts(tmp_path, "abcdef")
    assert rows.examples(path, TOKENIZER, 2, 3, BLOCK) == [
        {"prompt": "", "completion": text, "input_ids": TOKENIZER(text)["input_ids"], "prompt_tokens": 0}
        for text in ("abc", "def")
    ]


def test_rows_begin_with_the_token_that_starts_every_text(tmp_path, starting):
    path = texts(tmp_path, "abcdef")
    start, *text = starting("abcdef")["input_ids"]
    assert rows.cut(path, starting, 2, 4, BLOCK) == [[start, *text[:3]], [start, *text[3:]]]
    first, second = rows.examples(path, starting, 2, 4, BLOCK)
    assert (first["completion"], second["completion"]) == ("abc", "def")
    assert [each["prompt_tokens"] for each in (first, second)] == [1, 1]
    assert second["input_ids"] == [start, *text[3:]]


def test_a_model_is_calibrated_as_it_is_judged(tmp_path, starting):
    path = texts(tmp_path, "a" * 40)
    judged = rows.examples(path, starting, 2, 16, BLOCK)
    assert rows.cut(path, starting, 2, 16, BLOCK) == [each["input_ids"] for each in judged]
