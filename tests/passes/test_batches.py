"""Examples as a batch, and the loss of what is labelled in it."""

import pytest
import torch
from olive.data.constants import IGNORE_INDEX
from olive.passes.pytorch.lora import LoRA
from transformers import LlamaConfig, LlamaForCausalLM

from passes.batches import Collator, labelled_loss

pytestmark = pytest.mark.integration
EXAMPLES = [
    {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(len(ids), dtype=torch.int64), "labels": labels}
    for ids, labels in (
        ([5, 6, 7], torch.tensor([IGNORE_INDEX, 6, 7])),
        ([1, 2, 3, 4, 5], torch.tensor([IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX, 4, 5])),
    )
]


class Tokenizer:
    pad_token_id = 9


def test_a_plain_batch_is_that_of_olive():
    expected = LoRA.collate_batch(EXAMPLES, Tokenizer())
    got = Collator(9)(EXAMPLES)
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("lengths", "tokens"), [([], 5), ([4, 8, 16], 8), ([4], 5)])
def test_a_batch_is_padded_to_the_first_length_that_is_long_enough(lengths, tokens):
    batch = Collator(9, lengths)(EXAMPLES)
    assert {tensor.shape for tensor in batch.values()} == {(2, tokens)}
    assert batch["input_ids"][0].tolist() == [5, 6, 7] + [9] * (tokens - 3)
    assert batch["labels"][0].tolist() == [IGNORE_INDEX, 6, 7] + [IGNORE_INDEX] * (tokens - 3)


@pytest.mark.parametrize("labels_of_the_step", [None, 8])
def test_the_loss_of_labelled_tokens_alone_is_that_of_all_logits(labels_of_the_step):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_hidden_layers=2, **sizes)).eval()
    expected = model(**Collator(9)(EXAMPLES), num_items_in_batch=labels_of_the_step).loss
    batch = Collator(9, [8], labelled_only=True)(EXAMPLES)
    labels = batch.pop("labels")
    outputs = model(**batch)
    assert outputs.logits.shape == (4, 50)
    torch.testing.assert_close(labelled_loss(outputs, labels, labels_of_the_step), expected, rtol=1e-5, atol=0)
