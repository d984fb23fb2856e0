"""What memory a benchmark took."""

import resource
import sys

UNIT = 1 if sys.platform == "darwin" else 1024


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far; macOS counts in bytes, Linux in units of 1024."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
