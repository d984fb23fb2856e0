"""Rows of whole examples: each example once an epoch, none cut, and none that sees another."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from olive.data.constants import IGNORE_INDEX
from transformers import LlamaConfig, LlamaForCausalLM

from passes.batches import Collator, labelled_loss
from passes.packing import first_fit, joined, packed_rows

pytestmark = pytest.mark.integration


def example(*tokens: int, prompt: int = 0) -> dict[str, torch.Tensor]:
    ids = torch.tensor(tokens)
    labels = ids.clone()
    labels[:prompt] = IGNORE_INDEX
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def test_an_example_goes_into_the_first_row_that_has_room():
    lengths = (5, 4, 3, 2, 6, 1)
    rows = [[lengths[place] for place in row] for row in first_fit(lengths, 8)]
    assert rows == [[5, 3], [4, 2, 1], [6]]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60))
def test_rows_are_those_that_a_walk_through_all_of_them_finds(lengths):
    rows: list[list[int]] = []
    for place, tokens in enumerate(lengths):
        fitting = [row for row in rows if sum(lengths[each] for each in row) + tokens <= 12]
        (fitting[0] if fitting else rows.append([]) or rows[-1]).append(place)
    assert first_fit(lengths, 12) == rows


def test_packing_takes_time_as_there_are_examples():
    """Each of the 60,000 rows has room left, which a walk through all of them would look at 1.8e9 times."""
    began = time.process_time()
    assert len(first_fit([9] * 60_000, 16)) == 60_000
    assert time.process_time() - began < 10


def test_a_row_has_positions_that_start_anew_and_no_label_across_examples():
    row = joined([example(1, 2, 3, prompt=1), example(4, 5)])
    assert row["input_ids"].tolist() == [1, 2, 3, 4, 5]
    assert row["position_ids"].tolist() == [0, 1, 2, 0, 1]
    assert row["labels"].tolist() == [IGNORE_INDEX, 2, 3, IGNORE_INDEX, 5]


def test_every_epoch_has_each_example_once_in_an_order_that_the_seed_decides():
    examples = [example(index, index) for index in range(6)]
    rows = packed_rows(examples, 4, 6, seed=0)
    epochs = [torch.cat([row["input_ids"][::2] for row in part]).tolist() for part in (rows[:3], rows[3:])]
    assert [sorted(epoch) for epoch in epochs] == [list(range(6))] * 2
    assert epochs[0] != epochs[1]
    again = packed_rows(examples, 4, 6, seed=0)
    assert all(torch.equal(one["input_ids"], other["input_ids"]) for one, other in zip(rows, again, strict=True))
    other = packed_rows(examples, 4, 6, seed=1)
    assert any(not torch.equal(one["input_ids"], each["input_ids"]) for one, each in zip(rows, other, strict=True))


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, num_hidden_layers=2, **sizes)).eval()


@pytest.mark.parametrize("labelled_only", [False, True])
def test_packed_examples_have_the_loss_that_they_have_one_by_one(model, labelled_only):
    torch.manual_seed(1)
    examples = [example(*torch.randint(50, (tokens,)).tolist(), prompt=2) for tokens in (7, 12, 5, 9, 16)]
    alone = [Collator(0)([each]) for each in examples]
    labels = [batch["labels"][:, 1:].ne(IGNORE_INDEX).sum() for batch in alone]
    losses = [model(**batch).loss * count for batch, count in zip(alone, labels, strict=True)]
    rows = [joined([examples[place] for place in row]) for row in first_fit([7, 12, 5, 9, 16], 20)]
    assert [len(row["input_ids"]) for row in rows] == [19, 14, 16]
    batch = Collator(0, [20], labelled_only)(rows)
    if labelled_only:
        wanted = batch.pop("labels")
        packed = labelled_loss(model(**batch, use_cache=False), wanted)
    else:
        packed = model(**batch, use_cache=False).loss
    torch.testing.assert_close(packed, sum(losses) / sum(labels), rtol=1e-5, atol=0)
