"""Memory of a process: in large pages, kept for what comes next, and given back where a whole model goes."""

import ctypes
import gc
import os
import sys

# Numbers of glibc's malloc.h, and bytes. What is larger than the first is always given back when it is freed; of what
# is smaller, as much as the second says may stay with the process. By its defaults (32 MiB at most, and twice that) the
# system fills the pages of each batch's logits with zeros anew, which takes a seventh of the processor time.
M_MMAP_THRESHOLD, ALONE = -3, 256 << 20
M_TRIM_THRESHOLD, KEPT = -1, 512 << 20
# What glibc asks the system for in pages of 2 MiB in place of 4 KiB, where that has them for whoever asks.
TUNABLES, IN_HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def in_huge_pages() -> None:
    """Begin anew with memory in huge pages, unless the environment says something about them.

    All weights are read for each token, and a processor knows where a few thousand pages are. glibc reads the variable
    when it loads, which is before any line here; other C libraries do not.
    """
    given = os.environ.get(TUNABLES, "")
    if sys.platform != "linux" or IN_HUGE_PAGES in given:
        return
    wanted = ":".join(filter(None, [given, f"{IN_HUGE_PAGES}=1"]))
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, TUNABLES: wanted})


def keep() -> None:
    """Let this process keep memory that it frees, where the C library is glibc."""
    _call("mallopt", M_MMAP_THRESHOLD, ALONE)
    _call("mallopt", M_TRIM_THRESHOLD, KEPT)


def give_back() -> None:
    """Give back what nothing refers to any more, models among it, whose parts refer to each other."""
    gc.collect()
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    """Call a function of glibc, if that is the C library here."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), name):
        getattr(library, name)(*arguments)
