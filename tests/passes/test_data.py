"""The data components: rows to calibrate on, examples to train on."""

import json

import pytest
from transformers import AutoTokenizer

from passes import data
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
