"""How likely the model held each token that it wrote, before temperature, penalties and schemas chose among them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from press.serve import replies

# OpenAI's word for what cannot be, which JSON has no number for.
LEAST = -9999.0


@dataclass(frozen=True)
class Chance:
    """What is told of a token.

    :param start: of its text in the answer
    """

    start: int
    told: replies.TokenLogprob


def of(logits: np.ndarray, token: int, tops: int, decode: Callable[[int], str]) -> replies.TokenLogprob:
    """Return the log-probability of a token, and those of the likeliest ones.

    :param logits: of the position that the token was written at
    """
    row = logits.reshape(-1, logits.shape[-1])[-1].astype(np.float64)
    highest = row.max()
    logs = row - highest - np.log(np.exp(row - highest).sum())
    likeliest = np.argpartition(-logs, tops)[:tops]
    best = likeliest[np.argsort(-logs[likeliest], kind="stable")]

    def told(each: int) -> dict:
        text = decode(each)
        # A part of a character has no text of its own.
        whole = None if "\ufffd" in text else list(text.encode())
        return {"token": text, "logprob": max(float(logs[each]), LEAST), "bytes": whole}

    return replies.TokenLogprob(**told(token), top_logprobs=[replies.TopLogprob(**told(int(each))) for each in best])
