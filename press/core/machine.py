"""The class of the machine that a stage ran on: what floats depend on besides inputs, parameters and libraries."""

import os
import platform
import re
from pathlib import Path

from press.core import arithmetic, files, paths, shell

CPUINFO = Path("/proc/cpuinfo")
# Extensions by which PyTorch, oneDNN, MKL and ONNX Runtime choose another kernel, and so another order of sums.
INSTRUCTION_SETS = {
    *("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme"),
}
# The same on macOS, as `sysctl hw.optional` calls them.
APPLE_SETS = {
    "AdvSIMD": "asimd",
    "arm.FEAT_DotProd": "asimddp",
    "arm.FEAT_FP16": "asimdhp",
    "arm.FEAT_BF16": "bf16",
    "arm.FEAT_I8MM": "i8mm",
    "arm.FEAT_SME": "sme",
}


def this() -> dict:
    """Describe this machine's class: architecture, CPU vendor, instruction sets and GPU, but no host."""
    import torch

    vendor, flags = _apple() if platform.system() == "Darwin" else _linux()
    return {
        "architecture": platform.machine(),
        "vendor": vendor,
        "instruction_sets": sorted(INSTRUCTION_SETS & flags),
        "torch": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def instruction_sets() -> set[str]:
    """Return those extensions of this processor by which libraries choose kernels."""
    return INSTRUCTION_SETS & (_apple() if platform.system() == "Darwin" else _linux())[1]


def cores() -> int:
    """Return how many CPU cores this process may use; macOS knows of no limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> tuple[int, ...]:
    """Return the bytes of memory of each GPU that PyTorch can use."""
    import torch

    return tuple(torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count()))


def _linux() -> tuple[str, set[str]]:
    """Return the CPU's vendor and the names of all that it can do."""
    text = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    vendor = re.search(r"^(?:vendor_id|CPU implementer)\s*: *(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: *(.+)$", text, re.MULTILINE)
    return vendor[1] if vendor else platform.processor(), set(flags[1].split() if flags else ())


def _apple() -> tuple[str, set[str]]:
    """Return the CPU's vendor and those of its instruction sets that kernels are chosen by."""
    text = shell.output("/usr/sbin/sysctl", "hw.optional")
    there = re.findall(r"^hw\.optional\.(\S+): 1$", text, re.MULTILINE)
    return "Apple", {APPLE_SETS[name] for name in there if name in APPLE_SETS}


def record(name: str, mode: str = arithmetic.NATIVE, where: str = "cpu") -> None:
    """Write down in reports/machine/NAME.json what of the machine a stage's floats depend on.

    :param mode: portable floats are those of every processor of the architecture
    :param where: cpu or cuda
    """
    portable = arithmetic.is_portable(mode) and where == "cpu"
    facts = {"architecture": platform.machine(), "arithmetic": mode} if portable else this()
    files.write_json(paths.MACHINES / f"{name}.json", facts)


def recorded(name: str) -> dict:
    """Return what a stage ran on."""
    return files.read_json(paths.MACHINES / f"{name}.json")
