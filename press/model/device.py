"""Where PyTorch computes, by the parameter `device`, and what is said when a GPU is too small or gone."""

import contextlib
import os
import re
from collections.abc import Iterator

from press.core.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
# The amounts in PyTorch's message of a full GPU.
AMOUNTS = {
    "more": r"Tried to allocate ([\d.]+) (\w+)",
    "used": r"([\d.]+) (\w+) is allocated by PyTorch",
    "total": r"total capacity of ([\d.]+) (\w+)",
}


def resolve(name: str) -> str:
    """Return cpu or cuda for auto, cpu or cuda.

    :raises UserError: if it is cuda and there is none
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but PyTorch finds no CUDA device here: choose auto or cpu")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def confine(name: str, gpus: int = 1) -> str:
    """Resolve a device, and show the libraries of this process no other: no GPU, or the first ones.

    The Trainer and Olive's passes take a GPU where they see one, and where it sees several, the Trainer gives each
    a batch of its own. It has to be called before anybody looks.

    :param gpus: how many of them it may use
    """
    shown = os.environ.get(VISIBLE, ",".join(map(str, range(gpus)))).split(",")
    os.environ[VISIBLE] = "" if name == "cpu" else ",".join(shown[:gpus])
    return resolve(name)


@contextlib.contextmanager
def explained(knobs: str) -> Iterator[None]:
    """Turn a full or a failing GPU into a sentence.

    :param knobs: what lowers the memory that is needed, to follow "lower"
    """
    try:
        yield
    except Exception as error:
        sentence = _sentence(error, knobs)
        if sentence:
            raise UserError(sentence) from error
        raise


def _sentence(error: BaseException | None, knobs: str) -> str | None:
    import torch

    # Olive raises its own types, with PyTorch's as their cause.
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return f"the GPU's memory is full: {_needed(str(error))}; lower {knobs}, or set device to cpu"
        if isinstance(error, torch.AcceleratorError):
            reason = str(error).partition("\n")[0]
            return f"the GPU failed ({reason}): run `dvc repro` again when it works, or set device to cpu"
        error = error.__cause__ or error.__context__
    return None


def _needed(message: str) -> str:
    """Say how much memory was needed, by the amounts in PyTorch's message."""
    found = {name: re.search(pattern, message) for name, pattern in AMOUNTS.items()}
    if not all(found.values()):
        return message.partition(". GPU")[0]
    more, used, total = (float(match[1]) * UNITS[match[2]] / 2**30 for match in found.values())
    return f"at least {used + more:.2f} GiB were needed ({used:.2f} in use and {more:.2f} more) of its {total:.2f} GiB"
