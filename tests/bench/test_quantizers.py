"""What the quantizers are compared on."""

import json
from pathlib import Path

import pytest

from bench import quantizers
from press.model import checkpoints


@pytest.mark.parametrize("begins", [True, False])
def test_each_row_begins_as_a_text_does_in_use(starting, tmp_path, monkeypatch, begins):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quantizers, "ROW_TOKENS", 6)
    monkeypatch.setattr(quantizers, "TEXT", Path("text.jsonl"))
    if not begins:
        starting.backend_tokenizer.post_processor = None
    start = [starting.bos_token_id] if begins else []
    monkeypatch.setattr(checkpoints, "tokenizer", lambda _: starting)
    Path("text.jsonl").write_text('{"text": "abcdefgh"}\n{"text": "ij"}\n', encoding="utf-8")
    Path("prepared/a").mkdir(parents=True)
    chats = [{"input_ids": [*start, 1, 2, 3, 4]}, {"input_ids": [5, 6, 7, 8]}]
    Path("prepared/a/heldout.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")
    found = quantizers.heldout_rows(["a"])
    ids = starting("abcdefgh\n\nij\n\n", add_special_tokens=False)["input_ids"]
    width = 6 - len(start)
    assert found["text"].tolist() == [start + ids[:width], start + ids[width : 2 * width]]
    assert found["chat"].tolist() == [start + [1, 2, 3, 4, 5, 6][:width]]
