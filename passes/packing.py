"""Rows of whole examples: fewer, longer sequences that have no padding to speak of."""

from collections.abc import Iterable, Sequence

import torch
from olive.data.constants import IGNORE_INDEX

from passes.trainer import epochs


def packed_rows(examples: Sequence[dict], row_tokens: int, count: int, seed: int) -> list[dict]:
    """Return `count` rows: all examples, in an order of chance, packed into rows; then again in another order.

    :param examples: dicts of input_ids and labels, each int64 of shape (tokens,)
    :param row_tokens: at most so many tokens a row; no example may have more
    :return: dicts of input_ids, labels and position_ids
    """
    rows: list[dict] = []
    for order in epochs(len(examples), seed):
        rows += [joined(row) for row in first_fit([examples[index] for index in order], row_tokens)]
        if len(rows) >= count:
            break
    return rows[:count]


def first_fit(examples: Iterable[dict], row_tokens: int) -> list[list[dict]]:
    """Put each example into the first row that has room for it, or else into a new one."""
    rows: list[list[dict]] = []
    room: dict[int, int] = {}  # by row, of those that are not full
    for example in examples:
        tokens = len(example["input_ids"])
        row = next((index for index, free in room.items() if free >= tokens), len(rows))
        if row == len(rows):
            rows.append([])
            room[row] = row_tokens
        rows[row].append(example)
        room[row] -= tokens
        if not room[row]:
            del room[row]
    return rows


def joined(examples: Sequence[dict]) -> dict[str, torch.Tensor]:
    """Return examples as one row; positions start anew with each, by which transformers keeps attention within it."""
    labels = torch.cat([example["labels"] for example in examples])
    positions = torch.cat([torch.arange(len(example["input_ids"])) for example in examples])
    # An example's first token is nobody's next.
    labels = labels.masked_fill(positions == 0, IGNORE_INDEX)
    ids = torch.cat([example["input_ids"] for example in examples])
    return {"input_ids": ids, "labels": labels, "position_ids": positions}
