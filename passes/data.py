"""Olive data components that read local files only: calibration rows and prepared fine-tuning examples.

Named as `user_script` in a data config, which registers them with Olive.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast, overload

import torch
from olive.data.constants import IGNORE_INDEX
from olive.data.registry import Registry

from press.data import jsonl
from press.data import rows as text_rows
from press.data.examples import Example
from press.model import checkpoints

T = TypeVar("T")


@Registry.register_dataset()
def calibration_rows(
    path: str, model_path: str, rows: int, row_tokens: int, trust_remote_code: bool = False, **_
) -> list[tuple[dict[str, torch.Tensor], int]]:
    """Tokenize the lines of a JSON Lines file, join them and cut equal rows, as press.data.rows.cut does.

    :param trust_remote_code: whether the Python code of the model in `model_path` may run
    :return: `rows` pairs of {input_ids, attention_mask}, each int64 of shape (row_tokens,), and an unused label
    :raises UserError: if a line is no passage, or the file has too few tokens for the rows
    """
    tokenizer = checkpoints.tokenizer(Path(model_path), trust_remote_code)
    table = torch.tensor(text_rows.cut(Path(path), tokenizer, rows, row_tokens, "quantize.calibration"))
    return [({"input_ids": row, "attention_mask": torch.ones_like(row)}, 0) for row in table]


@Registry.register_dataset()
def prepared_examples(path: str, response_only: bool = True, **_) -> Sequence[dict[str, torch.Tensor]]:
    """Return prepared examples with labels, each read from the file when it is asked for.

    :param response_only: whether the prompt's tokens are left out of the loss, but for the answers in it
    :return: dicts of input_ids, attention_mask and labels, each int64 of shape (tokens,)
    """

    def labelled(example: Example) -> dict[str, torch.Tensor]:
        ids = torch.tensor(example["input_ids"])
        labels = ids.clone()
        if response_only:
            labels[: example["prompt_tokens"]] = IGNORE_INDEX
            for start, end in example.get("learned", ()):
                labels[start:end] = ids[start:end]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    return Prepared(Path(path), labelled)


@Registry.register_dataset()
def prepared_pairs(path: str, **_) -> Sequence[dict[str, list[int]]]:
    """Return prepared pairs of answers, each read from the file when it is asked for.

    :return: dicts of prompt_ids, chosen_ids and rejected_ids, as TRL's trainers take them
    """

    def parted(example: Example) -> dict[str, list[int]]:
        chosen, rejected, given = example["input_ids"], example["rejected_ids"], example["prompt_tokens"]
        return {"prompt_ids": chosen[:given], "chosen_ids": chosen[given:], "rejected_ids": rejected[given:]}

    return Prepared(Path(path), parted)


class Prepared(Sequence[T]):
    """Examples in a file that may be larger than the memory.

    :param make: gives what a training takes for what the file has
    """

    def __init__(self, path: Path, make: Callable[[Example], T]) -> None:
        self._rows = jsonl.Rows(path)
        self._make = make

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return self._make(cast(Example, self._rows[index]))
