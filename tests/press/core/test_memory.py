"""Freed memory stays with a stage for what comes next, and goes back where it is told to; huge pages for a server."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from projects import ROOT

from press.core import memory

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


HUGE = """
import re

from press.core import memory

memory.in_huge_pages()
held = b"w" * (64 << 20)
print(sum(map(int, re.findall(r"AnonHugePages: +(\\d+)", open("/proc/self/smaps").read()))) >> 10)
"""
ALLOWED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.integration
@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not ALLOWED.exists() or "[never]" in ALLOWED.read_text(encoding="utf-8"),
    reason="the system or the C library has no huge pages for whoever asks",
)
def test_memory_is_in_huge_pages_for_whoever_begins_anew():
    told = subprocess.run([sys.executable, "-c", HUGE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(told.stdout) >= 56


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.check=1", "glibc.malloc.check=1:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", None),
        ("glibc.malloc.hugetlb=1", None),
    ],
)
def test_a_process_begins_anew_once_unless_the_environment_has_said_it(monkeypatch, given, wanted):
    begun = []
    monkeypatch.setattr("os.execve", lambda *told: begun.append(told))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "press.serve", "package"])
    monkeypatch.delenv(memory.TUNABLES, raising=False)
    if given is not None:
        monkeypatch.setenv(memory.TUNABLES, given)
    memory.in_huge_pages()
    told = [(words[1:], environment[memory.TUNABLES]) for _, words, environment in begun]
    assert told == ([] if wanted is None else [(["-m", "press.serve", "package"], wanted)])
