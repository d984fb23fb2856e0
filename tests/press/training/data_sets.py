"""Small data sets for `prepare`, of one token a byte."""

import json
from pathlib import Path

import pytest

from press.core.errors import UserError
from press.params import schema, settings
from press.sources import tokenizers
from press.training import preparation

ROOT = Path(__file__).parents[3]
TOKENIZER = tokenizers.of_bytes()
EOS = [TOKENIZER.eos_token_id]
TEMPLATE = "<|im_start|>{prompt}\n{response}<|im_end|>"
OVERHEAD = 3  # tokens of the template
BASE = settings.load(ROOT / "params.yaml").adapter("travel")


def adapter(data: Path, **changes: object) -> schema.Adapter:
    chosen = {"template": TEMPLATE, "max_seq_len": 256, "too_long": "error", "heldout": 0.5, "response_schema": None}
    return schema.Adapter.model_validate({**BASE.model_dump(), **chosen, "data": str(data), **changes})


def line(prompt: object, response: object = "yes", **more: object) -> bytes:
    return json.dumps({"prompt": prompt, "response": response, **more}).encode()


def good(count: int) -> list[bytes]:
    return [line(f"question {index}") for index in range(count)]


def prepared(params: schema.Adapter) -> preparation.Prepared:
    return preparation.prepare(params, TOKENIZER, EOS)


def complaint(params: schema.Adapter) -> str:
    """Return what is wrong with a data set, with its path cut off."""
    with pytest.raises(UserError) as caught:
        prepared(params)
    assert str(caught.value).startswith(params.data)
    return str(caught.value).replace(params.data, "").strip()
