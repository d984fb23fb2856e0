"""The same bytes on other processors: Intel's Haswell and Skylake and an AMD EPYC, emulated by qemu.

qemu computes floats in software, by IEEE 754: an instruction whose result is a processor's own, such as an approximate
square root, comes out otherwise there, and so does a kernel that is chosen by vendor, instruction set or cache size.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from projects import ROOT, once

from press.core import arithmetic, environment

QEMU = shutil.which("qemu-x86_64")
# What is built on each: all on that of another vendor than this one's, on another what libraries have kernels for; by
# `make test-emulated`, all on each.
HERE = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()) if Path("/proc/cpuinfo").exists() else set()
PROCESSORS = (
    {"Haswell": "all", "EPYC": "products"} if "AuthenticAMD" in HERE else {"Haswell": "products", "EPYC": "all"}
)
if "EMULATE_ALL" in os.environ:
    PROCESSORS = dict.fromkeys(("Haswell", "Skylake-Client", "EPYC"), "all")
PROGRAM = [sys.executable, str(ROOT / "tests/portable_build.py")]

pytestmark = [
    pytest.mark.emulated,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(QEMU is None, reason="qemu-x86_64 is missing (Debian's package qemu-user)"),
    pytest.mark.skipif(not arithmetic.is_portable(arithmetic.PORTABLE), reason="for x86-64"),
]


def digests(folder: Path, what: str, *before: str, threads: int = 2, **variables: str) -> dict[str, str]:
    """Build in a folder, by a command that runs Python; return the digests."""
    folder.mkdir()
    wanted = arithmetic.variables({**os.environ, **environment.STAGE})[0] | variables
    command = [*before, *PROGRAM, str(folder), what, str(threads)]
    result = subprocess.run(command, env=wanted, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads((folder / "digests.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What this processor computes."""
    built = once(tmp_path_factory, "portable", lambda folder: digests(folder / "here", "all") and None)
    return json.loads((built / "here/digests.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("processor", "what"), PROCESSORS.items())
def test_another_processor_gives_the_same_bytes(here, tmp_path, processor, what):
    there = digests(tmp_path / "there", what, QEMU, "-cpu", processor)
    assert {name for name in there if there[name] != here[name]} == set()
    assert there.keys() == here.keys() if what == "all" else len(there) > 70


def test_neither_the_number_of_cores_nor_what_is_imported_is_an_input(here, tmp_path):
    """As on a machine, or in a container, with fewer cores than threads; and as a stage imports its libraries."""
    there = digests(tmp_path / "there", "all", "taskset", "--cpu-list", "0", WHOLE="1")
    assert {name for name in here if there[name] != here[name]} == set()


def test_what_libraries_choose_by_themselves_is_seen(here, tmp_path):
    """The planted fault: without its variable, a library takes another kernel, and the digests say so."""
    if "avx512f" not in HERE:
        pytest.skip("needs a processor with AVX-512")
    there = digests(tmp_path / "there", "products", ATEN_CPU_CAPABILITY="", ONEDNN_MAX_CPU_ISA="", NATIVE="1")
    assert {name for name in there if there[name] != here[name]}
