"""Rows of tokens from a file of text: cut equal, or a sentence that names the line or says what is missing."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from press.core.errors import UserError
from press.data import rows
from press.sources import tokenizers

# One token a byte, besides the marks of a chat.
TOKENIZER = tokenizers.of_bytes()
BLOCK = "evaluate.general"
SAID = 'not a JSON object with a "text", or with "messages" that fit the model\'s chat template'


def write(folder: Path, *values: dict) -> Path:
    path = folder / "text.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def texts(folder: Path, *given: str) -> Path:
    return write(folder, *({"text": text} for text in given))


def complaint(path: Path, count: int = 1, row_tokens: int = 2) -> str:
    """Return what is said of a file, behind its path."""
    with pytest.raises(UserError) as caught:
        rows.tokens(path, TOKENIZER, count, row_tokens, BLOCK)
    return str(caught.value).removeprefix(str(path))


def test_texts_are_joined_by_a_blank_line_and_cut_in_equal_rows(tmp_path):
    path = texts(tmp_path, "abc", "de\u2028f", "g" * 40)
    cut = rows.tokens(path, TOKENIZER, 3, 6, BLOCK)
    assert [len(row) for row in cut] == [6, 6, 6]
    assert TOKENIZER.decode([token for row in cut for token in row]) == "abc\n\nde\u2028f\n\nggggg"


@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=5), st.integers(1, 5))
def test_no_token_is_lost_or_read_twice(tmp_path_factory, given, row_tokens):
    path = texts(tmp_path_factory.getbasetemp(), *given)
    whole = "".join(f"{text}\n\n" for text in given)
    count = len(whole) // row_tokens
    cut = rows.tokens(path, TOKENIZER, count, row_tokens, BLOCK)
    assert TOKENIZER.decode([token for row in cut for token in row]) == whole[: count * row_tokens]


def test_a_chat_is_put_into_the_model_s_own_template(tmp_path):
    chat = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}
    path = write(tmp_path, {"text": "abc"}, chat)
    expected = "abc\n\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
    (row,) = rows.tokens(path, TOKENIZER, 1, len(TOKENIZER(expected)["input_ids"]), BLOCK)
    assert TOKENIZER.decode(row) == expected


def test_too_little_text_is_refused_with_the_figures(tmp_path):
    path = texts(tmp_path, "abc")
    assert complaint(path, 2, 16) == (
        " has 5 tokens, but evaluate.general needs 2 rows of 16, 32 in all: add text or lower evaluate.general.rows"
    )
    assert len(rows.tokens(path, TOKENIZER, 1, 5, BLOCK)) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b'{"txt": "a"}',
        b'{"text": 3}',
        b"[1]",
        b'{"text": "caf\xe9"}',
        b'{"messages": 3}',
        b'{"messages": [{"role": "user"}]}',
        b'{"messages": [{"role": "user", "content": ""}]}',
    ],
)
def test_a_wrong_line_is_named_wherever_it_stands(tmp_path, line):
    path = tmp_path / "text.jsonl"
    path.write_bytes(b'{"text": "enough for the row"}\n\n' + line + b"\n")
    assert complaint(path) == f" line 3: {SAID}"


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.jsonl"):
        assert complaint(path) == " is not a file: evaluate.general.data names the text"


def test_examples_are_rows_that_are_all_completion(tmp_path):
    path = texts(tmp_path, "abcdef")
    assert rows.examples(path, TOKENIZER, 2, 3, BLOCK) == [
        {"prompt": "", "completion": text, "input_ids": TOKENIZER(text)["input_ids"], "prompt_tokens": 0}
        for text in ("abc", "def")
    ]


def test_examples_stand_behind_the_token_that_starts_every_text(tmp_path):
    tokenizer = tokenizers.of_bytes()
    start = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, start)]
    )
    (example,) = rows.examples(texts(tmp_path, "abc"), tokenizer, 1, 3, BLOCK)
    assert example["input_ids"] == [start, *TOKENIZER("abc", add_special_tokens=False)["input_ids"]]
    assert (example["completion"], example["prompt_tokens"]) == ("abc", 1)
