"""Examples or packed rows as a batch of tensors, and the loss of what is labelled in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from olive.data.constants import IGNORE_INDEX
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers.loss.loss_utils import fixed_cross_entropy
from transformers.modeling_outputs import CausalLMOutputWithPast


@dataclass
class Collator:
    """Pad examples to one length.

    :param pad: id of the token to pad with
    :param lengths: of sequences, ascending, to pad to the first that is long enough; empty for the longest of a batch
    :param labelled_only: whether logits are wanted for the tokens before a label alone. Padding, which is behind all
        tokens, is not masked then: no token with a label attends to it, and attention without a mask is faster
    """

    pad: int
    lengths: list[int] = field(default_factory=list)
    labelled_only: bool = False

    def __call__(self, examples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return tensors of shape (examples, tokens)."""
        fill = {"input_ids": self.pad, "labels": IGNORE_INDEX, "attention_mask": 0, "position_ids": 0}
        batch = {
            name: pad_sequence([each[name] for each in examples], batch_first=True, padding_value=fill[name])
            for name in examples[0]
            if not (self.labelled_only and name == "attention_mask")
        }
        tokens = batch["input_ids"].shape[1]
        more = next((length for length in self.lengths if length >= tokens), tokens) - tokens
        batch = {name: functional.pad(tensor, (0, more), value=fill[name]) for name, tensor in batch.items()}
        if self.labelled_only:
            batch["logits_to_keep"] = functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORE_INDEX) != IGNORE_INDEX
        return batch


def labelled_loss(
    outputs: CausalLMOutputWithPast, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the loss of logits that were kept for the tokens before a label alone.

    :param num_items_in_batch: labels of the whole step, as the Trainer counts them; None for a mean over these
    """
    targets = labels[:, 1:]
    logits = cast(torch.Tensor, outputs.logits).float()
    return fixed_cross_entropy(logits, targets[targets != IGNORE_INDEX], num_items_in_batch)
