"""Score models on prepared examples: the loss of the completions, token by token."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from press.examples import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH = 8


def score(losses: Sequence[np.ndarray]) -> dict[str, float]:
    """Return mean loss (nats a token) and perplexity over all completions' tokens."""
    loss = float(np.concatenate(losses).mean(dtype=np.float64))
    return {"loss": round(loss, 6), "perplexity": round(math.exp(min(loss, 700)), 6)}


def torch_losses(model: "PreTrainedModel", examples: Sequence[Example]) -> list[np.ndarray]:
    """Return the loss of each completion token of each example, in fp32, by a PyTorch model."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    where = next(model.parameters()).device
    losses = []
    for start in range(0, len(examples), BATCH):
        batch = examples[start : start + BATCH]
        rows = [torch.tensor(example["input_ids"]) for example in batch]
        ids = pad_sequence(rows, batch_first=True)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        with torch.inference_mode():
            logits = model(input_ids=ids.to(where), attention_mask=mask.to(where), use_cache=False).logits.float().cpu()
        losses += [
            completion_losses(logits[index, : len(row)].numpy(), example)
            for index, (row, example) in enumerate(zip(rows, batch, strict=True))
        ]
    return losses


def runtime_losses(logits_of: Callable[[list[int]], np.ndarray], examples: Sequence[Example]) -> list[np.ndarray]:
    """Return the loss of each completion token of each example, by what gives logits (tokens, vocabulary)."""
    return [completion_losses(logits_of(example["input_ids"]), example) for example in examples]


def completion_losses(logits: np.ndarray, example: Example) -> np.ndarray:
    """Return -log p of each completion token.

    :param logits: fp32 of shape (tokens, vocabulary); row i predicts token i + 1
    """
    first = max(example["prompt_tokens"], 1)
    rows = logits[first - 1 : -1].astype(np.float32)
    rows = rows - rows.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(rows, np.array(example["input_ids"][first:])[:, None], axis=-1)[:, 0]
    return np.log(np.exp(rows).sum(axis=-1)) - chosen
