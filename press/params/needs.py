"""What a preset's model needs, and what this machine has: said before anything is downloaded.

presets/needs.json has the needs, as `python -m bench.preset_needs` writes them: bytes of memory (on a CPU, and beside a
GPU), of disk (all outputs, in DVC's cache too) and of a GPU's memory, and minutes of a processor core.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from press.core import files, machine
from press.core.errors import UserError

NEEDS = Path("presets/needs.json")
# What a container may have of the machine's memory, by control groups of version 2 and 1; "max" is no limit.
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
SWITCH = "ANYWAY=1 goes on all the same"


@dataclass(frozen=True)
class Here:
    """What a machine has, in bytes: memory with what it swaps to, free disk, each GPU's memory; and processor cores."""

    memory: int
    disk: int
    gpus: tuple[int, ...]
    cores: int


def of(name: str) -> dict | None:
    """Return what a preset needs; None of one that needs no more than the default model, or is not known."""
    return files.read_json(NEEDS)["presets"].get(name) if NEEDS.exists() else None


def here() -> Here:
    """Return what this machine has."""
    import psutil

    memory = psutil.virtual_memory().total + psutil.swap_memory().total
    return Here(allowed(memory), shutil.disk_usage(Path()).free, machine.gpus(), machine.cores())


def allowed(memory: int) -> int:
    """Return how much of the machine's memory this process may have: all, or what its container has."""
    limits = [path.read_text(encoding="utf-8").strip() for path in LIMITS if path.is_file()]
    return min([memory, *(int(limit) for limit in limits if limit.isdigit())])


def check(name: str, device: object, anyway: bool) -> None:
    """Say what a preset needs and what is here.

    :param device: as params.yaml has it
    :param anyway: whether to go on where it cannot be built
    :raises UserError: if it cannot be built here
    """
    if (needed := of(name)) is None:
        return
    has = here()
    print(sentence(name, needed, has, device), flush=True)
    if (lacking := impossible(needed, has, device)) and not anyway:
        raise UserError(f"{name} cannot be built here: {lacking}; {SWITCH}")


def sentence(name: str, needed: dict, has: Here, device: object) -> str:
    """Say what a preset needs and what a machine has."""
    on_gpu = _on_gpu(has, device)
    memory, disk, gpu = (
        files.readable(size) for size in (_memory(needed, on_gpu), needed["disk"], needed["gpu_memory"])
    )
    gpus = f"a GPU with {files.readable(max(has.gpus))}" if has.gpus else "no GPU"
    hours = sum(needed["core_minutes"].values()) / 60 / has.cores
    on_card = f" and {gpu} of GPU memory" if on_gpu else ""
    time = f"; on {has.cores} cores it takes some {hours:.1f} hours, on a GPU with {gpu} minutes"
    return (
        f"{name} needs about {memory} of memory, {disk} of disk{on_card}; here are {files.readable(has.memory)} of "
        f"memory, {files.readable(has.disk)} of free disk and {gpus}{'' if on_gpu else time}"
    )


def impossible(needed: dict, has: Here, device: object) -> str | None:
    """Return why a model cannot be built on a machine, with what would do; None if it can."""
    on_gpu = _on_gpu(has, device)
    memory = _memory(needed, on_gpu)
    if needed["disk"] > has.disk:
        return f"it needs {files.readable(needed['disk'])} of disk, but {files.readable(has.disk)} are free: free some"
    if memory > has.memory:
        return (
            f"it needs {files.readable(memory)} of memory, but there are {files.readable(has.memory)}: take a larger "
            "machine or a smaller model"
        )
    if on_gpu and needed["gpu_memory"] > max(has.gpus):
        return (
            f"it needs a GPU with {files.readable(needed['gpu_memory'])}, but the largest has "
            f"{files.readable(max(has.gpus))}: commit `device: cpu` in params.yaml, or take a smaller model"
        )
    return None


def _on_gpu(has: Here, device: object) -> bool:
    return bool(has.gpus) and device != "cpu"


def _memory(needed: dict, on_gpu: bool) -> int:
    return needed["memory"]["gpu" if on_gpu else "cpu"]
