"""Olive data components that read local files only: calibration rows and prepared fine-tuning examples.

Named as `user_script` in a data config, which registers them with Olive.
"""

import json
from pathlib import Path

import torch
from olive.data.constants import IGNORE_INDEX
from olive.data.registry import Registry
from transformers import AutoTokenizer

from press import checkpoints
from press.errors import UserError


@Registry.register_dataset()
def calibration_rows(
    path: str, model_path: str, rows: int, row_tokens: int, **_
) -> list[tuple[dict[str, torch.Tensor], int]]:
    """Tokenize the "text" of every line of a JSON Lines file, join them and cut equal rows.

    :return: `rows` pairs of {input_ids, attention_mask}, each int64 of shape (row_tokens,), and an unused label
    :raises UserError: if a line has no text, or the file has too few tokens for the rows
    """
    tokenizer = AutoTokenizer.from_pretrained(model_path, **checkpoints.trust(Path(model_path)))
    wanted = rows * row_tokens
    ids: list[int] = []
    for text in _texts(Path(path)):
        ids += tokenizer(text + "\n\n", add_special_tokens=False)["input_ids"]
        if len(ids) >= wanted:
            break
    if len(ids) < wanted:
        raise UserError(
            f"{path} has {len(ids)} tokens, but calibration needs {rows} rows of {row_tokens}, {wanted} in all: "
            "add text or lower quantize.calibration.rows"
        )
    table = torch.tensor(ids[:wanted]).reshape(rows, row_tokens)
    return [({"input_ids": row, "attention_mask": torch.ones_like(row)}, 0) for row in table]


@Registry.register_dataset()
def prepared_examples(path: str, response_only: bool = True, **_) -> list[dict[str, torch.Tensor]]:
    """Read examples with `input_ids` and `prompt_tokens`, one JSON object a line, and add labels.

    :param response_only: whether the prompt's tokens are left out of the loss
    :return: dicts of input_ids, attention_mask and labels, each int64 of shape (tokens,)
    """
    result = []
    for line in _lines(Path(path)):
        example = json.loads(line)
        ids = torch.tensor(example["input_ids"])
        labels = ids.clone()
        if response_only:
            labels[: example["prompt_tokens"]] = IGNORE_INDEX
        result.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return result


def _texts(path: Path) -> list[str]:
    try:
        lines = _lines(path)
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a UTF-8 file: quantize.calibration.data names the calibration text") from error
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(json.loads(line)["text"])
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f'{path} line {number}: not a JSON object with a "text"') from error
    return texts


def _lines(path: Path) -> list[str]:
    # Not str.splitlines, which also splits at characters that JSON does not escape, such as U+2028.
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")
