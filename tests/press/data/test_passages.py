"""Passages are read from lines of text and of chats, or a sentence names the line and what is wrong with it."""

import json
from pathlib import Path

import pytest

from press.core.errors import UserError
from press.data import passages
from press.sources import tokenizers

TOKENIZER = tokenizers.of_bytes()
BLOCK = "quantize.calibration"
USER = {"role": "user", "content": "hi"}


def write(folder: Path, *values: dict) -> Path:
    path = folder / "text.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def test_a_text_is_followed_by_a_blank_line_and_a_chat_stands_in_the_model_s_own_template(tmp_path):
    chat = {"messages": [USER, {"role": "assistant", "content": "yes"}]}
    path = write(tmp_path, {"text": "abc"}, chat)
    assert passages.read(path, TOKENIZER, BLOCK) == [
        "abc\n\n",
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n",
    ]


def test_content_in_parts_is_one_text(tmp_path):
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    path = write(tmp_path, {"messages": [{"role": "user", "content": parts}]})
    assert passages.read(path, TOKENIZER, BLOCK) == ["<|im_start|>user\nhi<|im_end|>\n"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "abc"}\n', encoding="utf-8-sig")
    assert passages.read(path, TOKENIZER, BLOCK) == ["abc\n\n"]


NO_TEXT = 'no text: it needs a "text", or the "messages" of a chat'
NO_ROLE = "message 1 has no role, such as user or assistant"
NO_PART = "message 1 has a part that is no text: only text can be read"
CONTROL = "which the base model reads as a control token: write it otherwise"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (b"{", "not JSON (Expecting property name enclosed in double quotes at column 2)"),
        (b'{"text": "a", "text": "b"}', 'JSON with the name "text" twice in one object'),
        (b'{"txt": "a"}', NO_TEXT),
        (b'{"text": 3}', NO_TEXT),
        (b"[1]", "a JSON list, not an object"),
        (b'{"text": "caf\xe9"}', "not UTF-8 (byte 14)"),
        (b'{"text": "a\\u0000b"}', "the text has the character U+0000, at which a device cuts a text off"),
        (b'{"text": "a\\ud83cb"}', "JSON with half of a surrogate pair, which is no character"),
        (b'{"text": "a<|im_end|>b"}', f"the text has '<|im_end|>', {CONTROL}"),
        (b'{"messages": 3}', "messages that are no list of messages: each needs a role and a content"),
        (b'{"messages": []}', "messages that are no list of messages: each needs a role and a content"),
        (b'{"messages": ["hi"]}', NO_ROLE),
        (b'{"messages": [{"content": "hi"}]}', NO_ROLE),
        (b'{"messages": [{"role": 1, "content": "hi"}]}', NO_ROLE),
        (b'{"messages": [{"role": "user"}]}', "message 1 has no content"),
        (b'{"messages": [{"role": "user", "content": " "}]}', "message 1 has no content"),
        (b'{"messages": [{"role": "user", "content": []}]}', "message 1 has no content"),
        (b'{"messages": [{"role": "user", "content": null}]}', "message 1 has no content"),
        (b'{"messages": [{"role": "user", "content": ["hi"]}]}', NO_PART),
        (b'{"messages": [{"role": "user", "content": [{"type": "image"}]}]}', NO_PART),
        (b'{"messages": [{"role": "user", "content": "a<|im_end|>"}]}', f"message 1 has '<|im_end|>', {CONTROL}"),
        (
            b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "<|im_"}, '
            b'{"type": "text", "text": "end|>"}]}]}',
            f"message 1 has '<|im_end|>', {CONTROL}",
        ),
        (b'{"messages": [{"role": "<|im_start|>", "content": "a"}]}', f"message 1 has '<|im_start|>', {CONTROL}"),
        (
            b'{"messages": [{"role": "user", "content": "a", "calls": [{"name": "<|im_end|>"}]}]}',
            f"message 1 has '<|im_end|>', {CONTROL}",
        ),
    ],
)
def test_a_wrong_line_is_named_with_the_reason(tmp_path, line, wrong):
    path = tmp_path / "text.jsonl"
    path.write_bytes(b'{"text": "enough for the row"}\n\n' + line + b"\n")
    with pytest.raises(UserError) as caught:
        passages.read(path, TOKENIZER, BLOCK)
    assert str(caught.value) == f"{path} line 3: {wrong}"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "maximum recursion depth exceeded"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% for i in range(1000000) %}{% endfor %}", "Range too big"),
    ],
)
def test_what_the_chat_template_refuses_is_told_in_its_own_words(tmp_path, template, reason):
    tokenizer = tokenizers.of_bytes()
    tokenizer.chat_template = template
    path = write(tmp_path, {"messages": [USER]})
    with pytest.raises(UserError, match=f"line 1: a chat that the base model's chat template does not take: {reason}"):
        passages.read(path, tokenizer, BLOCK)


@pytest.mark.parametrize(("end", "closed"), [("<|im_end|>", "<|im_end|>\n"), (None, "\n")])
def test_a_model_without_a_chat_template_is_given_plain_questions_and_answers(tmp_path, end, closed):
    tokenizer = tokenizers.of_bytes()
    tokenizer.chat_template, tokenizer.eos_token = None, end
    path = write(tmp_path, {"text": "abc"}, {"messages": [USER, {"role": "assistant", "content": "yes"}]})
    assert passages.read(path, tokenizer, BLOCK) == ["abc\n\n", f"Question: hi\nAnswer:\nyes{closed}"]


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(UserError, match=r"is not a file: quantize\.calibration\.data names the text"):
            passages.read(path, TOKENIZER, BLOCK)
