"""Freed memory stays with a stage for what comes next, and goes back to the system where it is told to."""

import platform
import subprocess
import sys

import pytest
from projects import ROOT

SCRIPT = """
import resource

from press.core import environment, memory

BYTES = 200 << 20
environment.prepare(online=False)


class Model:
    def __init__(self):
        self.itself, self.weights = self, b"w" * BYTES


def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"w" * BYTES
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident():
    return next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmRSS"))


print(faults(), faults())
model, kept = Model(), b"k" * 1000
before = resident()
del model
memory.give_back()
print(before - resident())
"""


@pytest.mark.integration
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_freed_memory_is_used_again_without_new_pages_and_a_model_s_is_given_back():
    told = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second, freed = map(int, told.stdout.split())
    # A page has 4 KB at least.
    assert first > 10_000
    assert second < first / 20
    assert freed > 190
