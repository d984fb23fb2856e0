"""What an adapter's training asks of the machine and the environment."""

from importlib import metadata
from typing import Literal

from press.core.errors import UserError

# The version that qlora is tried with; not in requirements.txt, since few need its 43 MB.
BITSANDBYTES = "0.50.2"


def check_machine(adapter: str, processes: int, method: str, where: Literal["cpu", "cuda"]) -> None:
    """Refuse a training that this machine or this environment cannot do.

    :param adapter: its name in params.yaml
    :raises UserError: if it wants more GPUs than there are, or NF4 without a GPU or without bitsandbytes
    """
    import torch

    if where == "cuda" and torch.cuda.device_count() < processes:
        raise UserError(
            f"adapters.{adapter}.training.processes is {processes}, but PyTorch finds {torch.cuda.device_count()} CUDA "
            "devices here, and each process needs one of its own: lower it"
        )
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
