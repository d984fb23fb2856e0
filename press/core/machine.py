"""The class of the machine that a stage ran on: what floats depend on besides inputs, parameters and libraries."""

import platform
import re
from pathlib import Path

from press.core import files, paths

CPUINFO = Path("/proc/cpuinfo")
# Extensions by which PyTorch, oneDNN, MKL and ONNX Runtime choose another kernel, and so another order of sums.
INSTRUCTION_SETS = {
    *("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2"),
}


def this() -> dict:
    """Describe this machine's class: architecture, CPU vendor, instruction sets and GPU, but no host."""
    import torch

    text = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    vendor = re.search(r"^(?:vendor_id|CPU implementer)\s*: *(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: *(.+)$", text, re.MULTILINE)
    return {
        "architecture": platform.machine(),
        "vendor": vendor[1] if vendor else platform.processor(),
        "instruction_sets": sorted(INSTRUCTION_SETS & set(flags[1].split() if flags else ())),
        "torch": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def record(name: str) -> None:
    """Write down in reports/machine/NAME.json what a stage ran on."""
    files.write_json(paths.MACHINES / f"{name}.json", this())


def recorded(name: str) -> dict:
    """Return what a stage ran on."""
    return files.read_json(paths.MACHINES / f"{name}.json")
