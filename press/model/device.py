"""Where PyTorch computes, by the parameter `device`: what it asks of the machine, and what is said of a failing GPU."""

import contextlib
import os
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Literal

from press.core import paths
from press.core.errors import UserError
from press.params import schema
from press.params.settings import Settings

VISIBLE = "CUDA_VISIBLE_DEVICES"
Device = Literal["cpu", "cuda"]
UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
# The version that qlora is tried with; not in requirements.txt, since few need its 43 MB.
BITSANDBYTES = "0.50.2"
# The amounts in PyTorch's message of a full GPU: what it wanted, what it has, and the GPU's memory.
AMOUNTS = (
    r"Tried to allocate ([\d.]+) (\w+)",
    r"([\d.]+) (\w+) is allocated by PyTorch",
    r"total capacity of ([\d.]+) (\w+)",
)


def resolve(name: Literal["auto"] | Device) -> Device:
    """Return cpu or cuda for auto, cpu or cuda.

    :raises UserError: if it is cuda and there is none
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but PyTorch finds no CUDA device here: choose auto or cpu")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def confine(name: Literal["auto"] | Device, gpus: int = 1) -> Device:
    """Resolve a device, and show the libraries of this process no other: no GPU, or the first ones.

    The Trainer and Olive's passes take a GPU where they see one, and where it sees several, the Trainer gives each
    a batch of its own. It has to be called before anybody looks.

    :param gpus: how many of them it may use
    """
    shown = os.environ.get(VISIBLE, ",".join(map(str, range(gpus)))).split(",")
    os.environ[VISIBLE] = "" if name == "cpu" else ",".join(shown[:gpus])
    return resolve(name)


def check(params: Settings) -> None:
    """Refuse a device that is not here, and trainings that it cannot do; PyTorch is loaded only to ask for these."""
    special = {
        name: adapter
        for name, adapter in params.adapters.items()
        if adapter.training.processes > 1 or adapter.lora.method == "qlora"
    }
    quantizing = quantizing_processes(params.quantize)
    if params.device != "cuda" and not special and quantizing == 1:
        return
    try:
        where = resolve(params.device)
        check_processes("quantize.awq.processes", quantizing, where)
        for name, adapter in special.items():
            check_training(name, adapter.training.processes, adapter.lora.method, where)
    except UserError as error:
        raise UserError(f"{paths.PARAMS}: {error}") from error


def quantizing_processes(quantize: schema.Quantize) -> int:
    """Return how many processes quantize: one, but for awq."""
    return quantize.awq.processes if quantize.algorithm == "awq" else 1


def check_processes(key: str, processes: int, where: Device) -> None:
    """Refuse more processes than there are GPUs.

    :param key: of params.yaml, which says how many there are
    """
    import torch

    if where == "cuda" and torch.cuda.device_count() < processes:
        raise UserError(
            f"{key} is {processes}, but PyTorch finds {torch.cuda.device_count()} CUDA devices here, and each process "
            "needs one of its own: lower it"
        )


def check_training(adapter: str, processes: int, method: str, where: Device) -> None:
    """Refuse a training that this machine or this environment cannot do.

    :param adapter: its name in params.yaml
    :raises UserError: if it wants more GPUs than there are, or NF4 without a GPU or without bitsandbytes
    """
    check_processes(f"adapters.{adapter}.training.processes", processes, where)
    if method == "qlora" and where == "cpu":
        raise UserError(
            f"adapters.{adapter}.lora.method is qlora, which needs a CUDA device, but device is cpu or none is here: "
            "choose lora"
        )
    if method == "qlora":
        check_bitsandbytes()


def check_bitsandbytes() -> None:
    """Refuse to train in NF4 without the version of bitsandbytes that it was tried with."""
    try:
        installed = metadata.version("bitsandbytes")
    except metadata.PackageNotFoundError:
        installed = "missing"
    if installed != BITSANDBYTES:
        raise UserError(
            f"bitsandbytes is {installed}, but the method qlora needs {BITSANDBYTES}: run `pip install "
            f"bitsandbytes=={BITSANDBYTES}`, or choose lora"
        )


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
    matches = [match for pattern in AMOUNTS if (match := re.search(pattern, message))]
    if len(matches) < len(AMOUNTS):
        return message.partition(". GPU")[0]
    more, used, total = (float(match[1]) * UNITS[match[2]] / 2**30 for match in matches)
    return f"at least {used + more:.2f} GiB were needed ({used:.2f} in use and {more:.2f} more) of its {total:.2f} GiB"
