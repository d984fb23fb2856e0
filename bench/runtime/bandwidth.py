"""How fast this machine's memory is read by so many threads of PyTorch."""

import time

import torch

BYTES = 1 << 30
TURNS = 5


def read_bytes_per_s(threads: int) -> float:
    """Return the best of a sum, a maximum and a copy of 1 GiB, as bytes read (and, by the copy, written) a second."""
    torch.set_num_threads(threads)
    values = torch.ones(BYTES // 8, dtype=torch.float64)
    target = torch.empty_like(values)
    tests = ((values.sum, BYTES), (values.max, BYTES), (lambda: target.copy_(values), 2 * BYTES))
    best = 0.0
    for test, moved in tests:
        for _ in range(TURNS):
            start = time.perf_counter()
            test()
            best = max(best, moved / (time.perf_counter() - start))
    return best
