"""Score models on prepared examples, token by token of the completions: the loss, and the distance from a reference."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from press.data.examples import Example

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

DIGITS = 6
FLOAT = 4
# Bytes of log-probabilities that are computed at a time: what a core's own cache holds is done in a fifth of the time.
BLOCK = 1 << 20


@dataclass
class Scored:
    """A model's figures for each scored token, one fp32 array an example, and for its own answers.

    :param losses: -log p of the token, in nats
    :param divergences: KL divergence of the model's distribution from the reference's, in nats; none of the reference
    :param agreements: 1 where both have the same likeliest token, else 0; none of the reference
    :param judged: what its own answer to an example's prompt is worth, as scorecard.judge has it, by the example's
        index; perhaps not of all examples
    :param rejected: of pairs, -log p of the tokens of the rejected answers
    :param margins: of pairs, by how much the chosen answer's reward is above the rejected one's
    """

    losses: list[np.ndarray] = field(default_factory=list)
    divergences: list[np.ndarray] = field(default_factory=list)
    agreements: list[np.ndarray] = field(default_factory=list)
    judged: dict[int, dict[str, bool | float]] = field(default_factory=dict)
    rejected: list[np.ndarray] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)

    def compare(self, reference: "Scored", beta: float) -> None:
        """Compare a model that learned from pairs with its reference, by DPO's rewards (arXiv 2305.18290).

        :param beta: by which the model learned: a reward is beta times what an answer's log-probability has gained
        """
        rewards = [
            [beta * float((before - after).sum(dtype=np.float64)) for before, after in zip(one, other, strict=True)]
            for one, other in ((reference.losses, self.losses), (reference.rejected, self.rejected))
        ]
        self.margins = [chosen - rejected for chosen, rejected in zip(*rewards, strict=True)]

    def score(self) -> dict[str, float]:
        """Return mean loss, perplexity, KL divergence and agreement over all tokens, and means over own answers."""
        loss = _mean(np.concatenate(self.losses))
        score = {"loss": loss, "perplexity": perplexity(loss)}
        if self.divergences:
            score["kl"] = _mean(np.concatenate(self.divergences))
            score["agreement"] = _mean(np.concatenate(self.agreements))
        for figure in next(iter(self.judged.values()), ()):
            score[figure] = sum(own[figure] for own in self.judged.values()) / len(self.judged)
        if self.margins:
            score["reward_accuracy"] = sum(margin > 0 for margin in self.margins) / len(self.margins)
            score["reward_margin"] = sum(self.margins) / len(self.margins)
        return {name: round(value, DIGITS) for name, value in score.items()}

    def example(self, index: int) -> dict[str, float | bool]:
        """Return an example's own mean loss, KL divergence and agreement, and what the answer to it is worth."""
        figures = {"loss": self.losses[index]}
        if self.divergences:
            figures |= {"kl": self.divergences[index], "agreement": self.agreements[index]}
        own = dict(self.judged.get(index, {}))
        if self.margins:
            own |= {"reward_accuracy": self.margins[index] > 0, "reward_margin": self.margins[index]}
        return {name: round(_mean(values), DIGITS) for name, values in figures.items()} | {
            name: value if isinstance(value, bool) else round(value, DIGITS) for name, value in own.items()
        }


def perplexity(loss: float) -> float:
    """Return exp of a loss, and a finite number also where that is none."""
    return math.exp(min(loss, 700))


def record(logits: Iterable[np.ndarray], examples: Sequence[Example], path: Path) -> Scored:
    """Score a model, and write its log-probabilities to a file: it is the reference for `score`.

    :param logits: of each example, fp32 of shape (scored tokens, vocabulary), as `scored_rows` has them
    :param path: a new file; it takes `reference_bytes`
    """
    scored = Scored()
    with path.open("wb") as file:
        for rows, example in zip(logits, examples, strict=True):
            losses = []
            for own, tokens in _blocks(rows, example):
                own.tofile(file)
                losses.append(_losses(own, tokens))
            scored.losses.append(np.concatenate(losses))
    return scored


def score(logits: Iterable[np.ndarray], examples: Sequence[Example], reference: Path) -> Scored:
    """Score a model, and compare it with the log-probabilities that `record` wrote of another."""
    scored = Scored()
    # Read, and not mapped: the file is many times as large as all else that is in memory.
    with reference.open("rb") as file:
        for rows, example in zip(logits, examples, strict=True):
            losses, divergences, agreements = [], [], []
            for own, tokens in _blocks(rows, example):
                base = np.fromfile(file, np.float32, own.size).reshape(own.shape)
                losses.append(_losses(own, tokens))
                divergences.append(divergence(base, own))
                agreements.append((base.argmax(-1) == own.argmax(-1)).astype(np.float32))
            scored.losses.append(np.concatenate(losses))
            scored.divergences.append(np.concatenate(divergences))
            scored.agreements.append(np.concatenate(agreements))
    return scored


def losses(logits: Iterable[np.ndarray], examples: Sequence[Example]) -> list[np.ndarray]:
    """Return -log p of each scored token, one fp32 array an example."""
    return [
        np.concatenate([_losses(own, tokens) for own, tokens in _blocks(rows, example)])
        for rows, example in zip(logits, examples, strict=True)
    ]


def reference_bytes(examples: Sequence[Example], vocabulary: int) -> int:
    """Return the size of the file that `record` writes."""
    return sum(len(example["input_ids"]) - _first(example) for example in examples) * vocabulary * FLOAT


def scored_rows(example: Example) -> slice:
    """Return which rows of logits are scored: row i predicts token i + 1."""
    return slice(_first(example) - 1, len(example["input_ids"]) - 1)


def torch_logits(
    model: "PreTrainedModel | PeftModel", examples: Iterable[Example], tokens: int
) -> Iterator[np.ndarray]:
    """Yield the scored rows of logits of each example, fp32 of shape (scored tokens, vocabulary), by a PyTorch model.

    Its head computes no others: with a large vocabulary, it is the most of the work.

    :param tokens: that a batch may have, its padding included; one example at least
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    where = next(model.parameters()).device
    for batch in _batches(examples, tokens):
        ids = pad_sequence([torch.tensor(example["input_ids"]) for example in batch], batch_first=True)
        # No token attends to padding, which is behind all of them, so that nothing is masked: attention that is causal
        # and no more takes less time, to the same floats.
        mask = torch.ones_like(ids)
        wanted = torch.zeros_like(mask, dtype=torch.bool)
        for row, example in zip(wanted, batch, strict=True):
            row[scored_rows(example)] = True
        with torch.inference_mode(), _head_at(model, wanted.to(where)):
            logits = model(input_ids=ids.to(where), attention_mask=mask.to(where), use_cache=False).logits[0]
        for of in logits.split(wanted.sum(-1).tolist()):
            yield of.float().cpu().numpy()


@contextmanager
def _head_at(model: "PreTrainedModel | PeftModel", wanted: "torch.Tensor") -> Iterator[None]:
    """Let a model's head see the wanted positions alone, one behind the other in a batch of one.

    :param wanted: bool of shape (batch, tokens)
    """
    # PEFT's models pass on what they have not themselves, and no type says so.
    head = cast("torch.nn.Module", cast(Any, model).get_output_embeddings())
    hook = head.register_forward_pre_hook(lambda _, given: given[0][wanted][None])
    try:
        yield
    finally:
        hook.remove()


def runtime_logits(logits_of: Callable[[list[int]], np.ndarray], examples: Iterable[Example]) -> Iterator[np.ndarray]:
    """Yield the scored rows of logits of each example, by what gives those of all its token ids."""
    for example in examples:
        yield logits_of(example["input_ids"])[scored_rows(example)]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the log-probabilities of each row of logits, fp32 of the same shape."""
    rows = np.subtract(logits, logits.max(axis=-1, keepdims=True), dtype=np.float32)
    rows -= np.log(np.exp(rows).sum(axis=-1, keepdims=True))
    return rows


def divergence(expected: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the KL divergence in nats of each row of log-probabilities from the expected ones; never below 0."""
    gains = expected - own
    gains *= np.exp(expected)
    # Rounding leaves the rows' sums beside 1, and so equal rows' neighbours a little below 0.
    return np.maximum(gains.sum(axis=-1), 0)


def _batches(examples: Iterable[Example], tokens: int) -> Iterator[list[Example]]:
    batch: list[Example] = []
    width = 0
    for example in examples:
        width = max(width, len(example["input_ids"]))
        if batch and width * (len(batch) + 1) > tokens:
            yield batch
            batch, width = [], len(example["input_ids"])
        batch.append(example)
    if batch:
        yield batch


def _blocks(rows: np.ndarray, example: Example) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the log-probabilities at the completion's tokens, some rows at a time, and those tokens.

    :param rows: fp32 of shape (scored tokens, vocabulary)
    """
    tokens = np.array(example["input_ids"][_first(example) :])
    size = max(BLOCK // (FLOAT * rows.shape[1]), 1)
    for start in range(0, len(tokens), size):
        yield log_softmax(rows[start : start + size]), tokens[start : start + size]


def _losses(rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return -np.take_along_axis(rows, tokens[:, None], axis=-1)[:, 0]


def _first(example: Example) -> int:
    """Return the index of the first token that is scored: the very first one has nothing that predicts it."""
    return max(example["prompt_tokens"], 1)


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64))
