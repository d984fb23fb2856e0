"""Olive data components that read local files only: calibration rows and prepared fine-tuning examples.

Named as `user_script` in a data config, which registers them with Olive.
"""

import json
from pathlib import Path

import torch
from jinja2 import TemplateError
from olive.data.constants import IGNORE_INDEX
from olive.data.registry import Registry
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from press import checkpoints, examples
from press.errors import UserError


@Registry.register_dataset()
def calibration_rows(
    path: str, model_path: str, rows: int, row_tokens: int, **_
) -> list[tuple[dict[str, torch.Tensor], int]]:
    """Tokenize the lines of a JSON Lines file, join them and cut equal rows.

    A line is an object with a "text", or with the "messages" of a chat, which the model's own chat template
    turns into text.

    :return: `rows` pairs of {input_ids, attention_mask}, each int64 of shape (row_tokens,), and an unused label
    :raises UserError: if a line has neither, or the file has too few tokens for the rows
    """
    tokenizer = AutoTokenizer.from_pretrained(model_path, **checkpoints.trust(Path(model_path)))
    wanted = rows * row_tokens
    ids: list[int] = []
    for text in _texts(Path(path), tokenizer):
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
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
    """Read prepared examples and add labels.

    :param response_only: whether the prompt's tokens are left out of the loss
    :return: dicts of input_ids, attention_mask and labels, each int64 of shape (tokens,)
    """
    result = []
    for example in examples.read(Path(path)):
        ids = torch.tensor(example["input_ids"])
        labels = ids.clone()
        if response_only:
            labels[: example["prompt_tokens"]] = IGNORE_INDEX
        result.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return result


def _texts(path: Path, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the text of each line, with what separates it from the next."""
    try:
        # Not str.splitlines, which also splits at characters that JSON does not escape, such as U+2028.
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a UTF-8 file: quantize.calibration.data names the calibration text") from error
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            passage = json.loads(line)
            if "messages" in passage:
                if not all(message["content"] for message in passage["messages"]):
                    raise ValueError("an empty message")
                texts.append(tokenizer.apply_chat_template(passage["messages"], tokenize=False))
            else:
                texts.append(passage["text"] + "\n\n")
        except (ValueError, TypeError, KeyError, TemplateError) as error:
            raise UserError(
                f'{path} line {number}: not a JSON object with a "text", or with "messages" that fit the model\'s '
                "chat template"
            ) from error
    return texts
