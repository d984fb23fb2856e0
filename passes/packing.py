"""Rows of whole examples: fewer, longer sequences that have no padding to speak of."""

from collections.abc import Sequence

import torch
from olive.data.constants import IGNORE_INDEX

from passes.trainer import Picked, epochs


def packed_rows(examples: Sequence[dict], row_tokens: int, count: int, seed: int) -> Sequence[dict]:
    """Return `count` rows: all examples, in an order of chance, packed into rows; then again in another order.

    :param examples: dicts of input_ids and labels, each int64 of shape (tokens,)
    :param row_tokens: at most so many tokens a row; no example may have more
    :return: dicts of input_ids, labels and position_ids
    """
    lengths = [len(each["input_ids"]) for each in examples]
    rows: list[list[int]] = []
    for order in epochs(len(examples), seed):
        packed = first_fit([lengths[index] for index in order], row_tokens)
        rows += [[order[place] for place in row] for row in packed]
        if len(rows) >= count:
            break
    return Picked(lambda row: joined([examples[index] for index in row]), rows[:count])


def first_fit(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """Put each example into the first row that has room for it, or else into a new one.

    :param lengths: tokens of each example
    :return: the examples of each row, by their places
    """
    rows: list[list[int]] = [[] for _ in lengths]
    # A binary tree over as many rows as there can be: a node has the most room of the rows below it.
    leaves = 1 << (len(lengths) - 1).bit_length()
    room = [row_tokens] * (2 * leaves)
    for place, tokens in enumerate(lengths):
        node = 1
        while node < leaves:
            node *= 2
            node += room[node] < tokens
        rows[node - leaves].append(place)
        room[node] -= tokens
        while node := node // 2:
            room[node] = max(room[2 * node], room[2 * node + 1])
    return [row for row in rows if row]


def joined(examples: Sequence[dict]) -> dict[str, torch.Tensor]:
    """Return examples as one row; positions start anew with each, by which transformers keeps attention within it."""
    labels = torch.cat([example["labels"] for example in examples])
    positions = torch.cat([torch.arange(len(example["input_ids"])) for example in examples])
    # An example's first token is nobody's next.
    labels = labels.masked_fill(positions == 0, IGNORE_INDEX)
    ids = torch.cat([example["input_ids"] for example in examples])
    return {"input_ids": ids, "labels": labels, "position_ids": positions}
