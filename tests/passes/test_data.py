"""The data components: rows to calibrate on, examples to train on."""

import json

import pytest
from transformers import AutoTokenizer

from passes import data
from passes.trainer import training_order
from press.core.errors import UserError
from press.data import jsonl

pytestmark = pytest.mark.integration


def write_texts(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def test_calibration_rows_are_the_joined_texts_cut_in_equal_rows(tiny_base, tmp_path):
    path = write_texts(tmp_path / "texts.jsonl", ["abc", "de\u2028f", "g" * 40])
    rows = data.calibration_rows(path, str(tiny_base), rows=3, row_tokens=6)
    ids = [token for row, _ in rows for token in row["input_ids"].tolist()]
    assert [row["input_ids"].shape for row, _ in rows] == [(6,)] * 3
    assert all(row["attention_mask"].sum() == 6 for row, _ in rows)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    assert tokenizer.decode(ids) == "abc\n\nde\u2028f\n\nggggg"


def test_a_mistake_in_the_calibration_text_is_a_sentence(tiny_base, tmp_path):
    """tests/press/data/test_rows.py has them all."""
    with pytest.raises(UserError, match=r"none\.jsonl is not a file: quantize\.calibration\.data names the text"):
        data.calibration_rows(str(tmp_path / "none.jsonl"), str(tiny_base), rows=1, row_tokens=2)


@pytest.mark.parametrize(("response_only", "labels"), [(True, [-100, -100, 7, 8]), (False, [5, 6, 7, 8])])
def test_only_the_response_is_learned_if_so_asked(tmp_path, response_only, labels):
    path = tmp_path / "train.jsonl"
    jsonl.write(path, [{"prompt": "p", "completion": "c", "input_ids": [5, 6, 7, 8], "prompt_tokens": 2}])
    (example,) = data.prepared_examples(str(path), response_only=response_only)
    assert example["input_ids"].tolist() == [5, 6, 7, 8]
    assert example["labels"].tolist() == labels


def test_the_answers_in_a_prompt_are_learned_too(tmp_path):
    path = tmp_path / "train.jsonl"
    row = {"prompt": "p", "completion": "c", "input_ids": [1, 2, 3, 4, 5, 6], "prompt_tokens": 5, "learned": [[1, 3]]}
    jsonl.write(path, [row])
    (example,) = data.prepared_examples(str(path))
    assert example["labels"].tolist() == [-100, 2, 3, -100, -100, 6]


def test_examples_are_read_one_by_one_from_anywhere_in_the_file(tmp_path):
    path = tmp_path / "train.jsonl"
    rows = [
        {"prompt": "\u2028é\x85", "completion": "", "input_ids": [n] * (n + 1), "prompt_tokens": 0} for n in range(9)
    ]
    jsonl.write(path, rows)
    examples = data.prepared_examples(str(path))
    assert [len(each["input_ids"]) for each in examples] == list(range(1, 10))
    assert examples[7]["input_ids"].tolist() == [7] * 8
    assert [len(each["labels"]) for each in examples[2:4]] == [3, 4]
    picked = training_order(examples, 20, seed=1)
    assert len(picked) == 20
    assert sorted(len(each["input_ids"]) for each in picked[:9]) == list(range(1, 10))
    path.write_bytes(b"")
    assert len(data.prepared_examples(str(path))) == 0
