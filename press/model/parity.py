"""How far what one model says next is from what another one says: what a pass has cost, and whether it broke it."""

from pathlib import Path

import numpy as np

from press.core.errors import UserError
from press.model import checkpoints

# Nats a token beyond which a pass on weights has broken the model. Pruning half of the weights costs less; what less
# costs is for the gates to judge.
BROKEN = 1.0
# What both read: words of every day, in tokens of each model's own.
TEXT = (
    "The train to the coast leaves at nine, and it takes about two hours. Before you go, look at the weather: in "
    "spring it often rains there in the afternoon, so that a light jacket is a good idea. You can buy a ticket at the "
    "station or on your phone, which is cheaper."
)


def divergence(before: np.ndarray, after: np.ndarray) -> float:
    """Return the mean Kullback-Leibler divergence in nats a token, infinity where logits are not finite.

    :param before: fp32 of shape (tokens, vocabulary)
    """
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return float("inf")
    expected, actual = (_log_softmax(each.astype(np.float64)) for each in (before, after))
    return float((np.exp(expected) * (expected - actual)).sum(axis=-1).mean())


def check_checkpoints(before: Path, after: Path, trust: bool = False) -> float:
    """Return the divergence of a checkpoint from the one that a pass made it of.

    :param trust: whether the checkpoints' own Python code may run
    :raises UserError: if the pass broke it
    """
    ids = checkpoints.tokenizer(before, trust)(TEXT)["input_ids"]
    cost = divergence(_logits(before, ids, trust), _logits(after, ids, trust))
    if not cost <= BROKEN:
        raise UserError(
            f"it breaks the model, which is {cost:.3g} nats a token from what it was; at most {BROKEN:g} is let pass"
        )
    return cost


def _logits(folder: Path, ids: list[int], trust: bool) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return checkpoints.load(folder, trust=trust)(input_ids=torch.tensor([ids])).logits[0].float().numpy()


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
