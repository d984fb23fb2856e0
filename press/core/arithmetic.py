"""The same floats on every x86-64 processor with AVX2 and FMA (x86-64-v3), Intel or AMD, with AVX-512 or without.

A sum of floats depends on the order of its terms, and libraries choose that order by the processor. With the parameter
`arithmetic: portable`, what chooses is taken away: most of it by variables that libraries read once when they load, so
that a stage begins in a process that has them; the rest in PyTorch, before it computes. With `native` libraries choose.
Intel's guide to MKL explains its variable under "Obtaining Numerically Reproducible Results".
"""

import hashlib
import os
import platform
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from press.core import paths, strict_yaml
from press.core.errors import UserError

if TYPE_CHECKING:
    import torch

PORTABLE, NATIVE = "portable", "native"
# Instruction sets that a processor must have for it.
NEEDED = ("avx2", "fma")
VARIABLES = {
    # PyTorch's own loops: vectors of AVX-512 would sum in another order.
    "ATEN_CPU_CAPABILITY": "avx2",
    # MKL: one path for all vendors and instruction sets. AVX2's is not honoured on AMD.
    "MKL_CBWR": "COMPATIBLE",
    # oneDNN's products, which take the place of MKL's below: nothing newer than what `_chunked` knows.
    "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
    # NumPy's products, which are split among as many threads as there are cores, and its loops.
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
# Variables by which a user's environment would let libraries choose otherwise, and by which the C library does.
FOREIGN = ("ATEN_", "DNNL_", "GOMP_", "KMP_", "MKL_", "NPY_", "OMP_", "ONEDNN_", "OPENBLAS_", "GLIBC_TUNABLES")
# Set by the stage's own frame.
OWN = {"OMP_WAIT_POLICY"}
# MKL's vector functions: a first call from two threads at once may take a less accurate kernel, so that each is called
# once before (https://github.com/pytorch/pytorch/issues/188792).
VECTOR_FUNCTIONS = ("cos", "erf", "exp", "expm1", "log", "log1p", "sin", "tan", "tanh")
# Multiplications below which calling oneDNN takes longer than MKL's plain path.
SMALL = 1 << 18
# Terms that oneDNN adds up in one chain; with AVX-512, sums of at most LONG terms in chains of SHORT.
LONG, SHORT = 1024, 512
# Terms from which, and rows and columns up to which, oneDNN with AVX-512 may share out a sum among threads.
SHARED_TERMS, SHARED_SIDE = 20_000, 512
# What `_self_test` computes, on each processor on which portable arithmetic was tried.
EXPECTED = "fac97644b07b0aacdb3230d503731214f9a640fc0ec63421ca41c5514fa2516c"

_routes: list["torch.library.Library"] = []


def chosen() -> str:
    """Return what params.yaml says; where it says nothing that makes sense, `check` refuses it."""
    try:
        mode = strict_yaml.load(paths.PARAMS)["arithmetic"]
    except (OSError, KeyError, TypeError, UserError):
        return PORTABLE
    return NATIVE if mode == NATIVE else PORTABLE


def is_portable(arithmetic: str) -> bool:
    """Whether floats are to be, and can be, those of every x86-64 processor: no other architecture has the promise."""
    return arithmetic == PORTABLE and platform.machine() in ("x86_64", "AMD64")


def variables(given: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables of a process with portable arithmetic, and the names of those that it may not keep."""
    foreign = sorted(name for name in given if name.startswith(FOREIGN) and name not in OWN)
    kept = {name: value for name, value in given.items() if name not in foreign}
    return kept | VARIABLES, [name for name in foreign if given[name] != VARIABLES.get(name)]


def enter() -> None:
    """Begin anew, with the variables of portable arithmetic, if this process is a stage's and has others.

    Libraries, the C library among them, read them when they load, which is before any line of a stage.
    """
    if not _is_stage(sys.orig_argv) or not is_portable(chosen()):
        return
    wanted, overridden = variables(os.environ)
    if wanted == dict(os.environ):
        return
    if overridden:
        print(
            f"note: {', '.join(overridden)} are not used as your environment has them: arithmetic is portable",
            file=sys.stderr,
        )
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def _is_stage(words: list[str]) -> bool:
    """Tell by its command line whether a process is `python -m stages.NAME`."""
    return any(one == "-m" and two.startswith("stages.") for one, two in pairwise(words))


def check(arithmetic: str, instruction_sets: set[str]) -> None:
    """Refuse a processor that portable arithmetic cannot have.

    :raises UserError: if it is not at least an x86-64-v3
    """
    missing = [name for name in NEEDED if name not in instruction_sets]
    if is_portable(arithmetic) and missing:
        raise UserError(
            f"{paths.PARAMS}: arithmetic is portable, which needs a processor with {' and '.join(NEEDED)} (x86-64-v3), "
            f"but this one shows no {' and no '.join(missing)}: choose native, or let the container or virtual machine "
            "show what the processor has"
        )


def begin(arithmetic: str, threads: int) -> None:
    """Let PyTorch, in this process, compute with so many threads, and portably if params.yaml says so.

    :raises UserError: if libraries do not compute what portable arithmetic promises
    """
    import torch

    # What follows must not depend on the number of threads, as products of MKL and the ends of loops' parts do.
    torch.set_num_threads(1)
    if is_portable(arithmetic):
        _begin_portably()
    torch.set_num_threads(threads)


def _begin_portably() -> None:
    import torch

    if not _routes:
        _routes.append(_routed())
        for name in VECTOR_FUNCTIONS:
            getattr(torch, name)(torch.ones(1))
    digest = _self_test()
    if digest != EXPECTED:
        raise UserError(
            f"arithmetic is portable, but the libraries here compute a known product otherwise ({digest[:12]}, not "
            f"{EXPECTED[:12]}): run the stage by `dvc repro` with the locked packages, or set arithmetic to native"
        )


def _routed() -> "torch.library.Library":
    """Let PyTorch take fp32 products from oneDNN, and fp32 square roots from double ones.

    MKL's portable products run at the speed of SSE2, a third of AVX2's; its square root begins with an instruction
    whose result depends on the vendor.
    """
    import torch

    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        # That a kernel takes the place of another is what is wanted.
        warnings.simplefilter("ignore")
        for name, function in ROUTES.items():
            library.impl(name, function, "CPU")
    return library


def _fits(*factors: "torch.Tensor") -> bool:
    import torch

    (rows, terms), columns = factors[-2].shape[-2:], factors[-1].shape[-1]
    # A product with a vector is another kernel, which sums in another order.
    return (
        rows * terms * columns >= SMALL
        and rows > 1
        and columns > 1
        and all(each.dtype is torch.float32 and each.layout is torch.strided for each in factors)
    )


def _product(left: "torch.Tensor", right: "torch.Tensor") -> "torch.Tensor":
    """Return a product of two matrices by oneDNN, of AVX2 or AVX-512.

    Each element is a chain of fused multiply-adds in the order of its terms, whatever the width of the vectors, which
    lie along rows and columns. Only where a chain ends depends on the instruction set: after 1024 terms, but after 512
    in sums of at most 1024 with AVX-512 (oneDNN's src/cpu/x64/matmul/brgemm_matmul_utils.cpp, `default_k_blk`). The
    chains of AVX-512 are those that count: with AVX2, they are asked for one by one.
    """
    (rows, terms), columns = left.shape, right.shape[1]
    shared = terms >= SHARED_TERMS and max(rows, columns) <= SHARED_SIDE
    if shared or (SHORT < terms <= LONG and _one_chain()):
        return _chained(left, right)
    return _linear(left, right)


def _chained(left: "torch.Tensor", right: "torch.Tensor") -> "torch.Tensor":
    """Return a product as a sum of products of so few terms that each is one chain."""
    product = _linear(left[:, :SHORT], right[:SHORT])
    for start in range(SHORT, left.shape[1], SHORT):
        product += _linear(left[:, start : start + SHORT], right[start : start + SHORT])
    return product


def _linear(left: "torch.Tensor", right: "torch.Tensor") -> "torch.Tensor":
    """Call oneDNN, which takes the second factor transposed, and has a slow path for parts of matrices."""
    import torch

    # To lay a wide factor out anew takes longer than a product with a narrow one: it becomes the second, which may lie
    # either way. The sums are the same.
    if not left.is_contiguous() and left.t().is_contiguous() and left.shape[0] > right.shape[1]:
        return _linear(right.t(), left.t()).t().contiguous()
    weight = right.t() if right.is_contiguous() else right.t().contiguous()
    return torch.ops.mkldnn._linear_pointwise.default(left.contiguous(), weight, None, "none", [], "")


@cache
def _one_chain() -> bool:
    """Tell whether oneDNN here adds up 1024 terms in one chain, as it does with AVX2."""
    import torch

    left, right = torch.full((2, LONG), 0.1), torch.full((LONG, 2), 0.1)
    return not torch.equal(_linear(left, right), _chained(left, right))


def _mm(left: "torch.Tensor", right: "torch.Tensor") -> "torch.Tensor":
    import torch

    if _fits(left, right):
        return _product(left, right)
    return torch.ops.aten.mm.out(left, right, out=left.new_empty(left.shape[0], right.shape[1]))


def _addmm(
    added: "torch.Tensor", left: "torch.Tensor", right: "torch.Tensor", *, beta: float = 1, alpha: float = 1
) -> "torch.Tensor":
    import torch

    if _fits(added, left, right) and beta == 1 and alpha == 1:
        return _product(left, right) + added
    shape = (left.shape[0], right.shape[1])
    return torch.ops.aten.addmm.out(added, left, right, beta=beta, alpha=alpha, out=left.new_empty(shape))


def _bmm(left: "torch.Tensor", right: "torch.Tensor") -> "torch.Tensor":
    import torch

    products = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    if not _fits(left, right):
        return torch.ops.aten.bmm.out(left, right, out=products)
    for index, factors in enumerate(zip(left, right, strict=True)):
        products[index] = _product(*factors)
    return products


def _sqrt(values: "torch.Tensor") -> "torch.Tensor":
    """Return the nearest float to each square root: a double's, whichever way it is rounded, is near enough to tell."""
    import torch

    double = values.double() if values.dtype is torch.float32 else values
    return torch.ops.aten.sqrt.out(double, out=double.new_empty(double.shape)).to(values.dtype)


def _sqrt_in_place(values: "torch.Tensor") -> "torch.Tensor":
    return values.copy_(_sqrt(values))


ROUTES = {"mm": _mm, "addmm": _addmm, "bmm": _bmm, "sqrt": _sqrt, "sqrt_": _sqrt_in_place}


def _self_test() -> str:
    """Return a digest of what PyTorch and NumPy make of known numbers, by each of the libraries behind them."""
    import numpy as np
    import torch

    def known(rows: int, columns: int) -> "torch.Tensor":
        # Exact in fp32, and without a generator, whose numbers are a library's as well.
        numbers = torch.arange(rows * columns, dtype=torch.int64) * 1103515245 + 12345
        return ((numbers >> 8) % 65536 - 32768).float().reshape(rows, columns) / 32768

    left, right = known(24, 576), known(64, 576)
    gram = left @ left.T + 1000 * torch.eye(24)
    steps: dict[str, Callable[[], object]] = {
        "oneDNN": lambda: _product(left, right.T),
        "oneDNN's longer sums": lambda: _product(known(3, 2100), known(2100, 4)),
        "MKL": lambda: torch.mm(left, right.T[:, :8]),
        "LAPACK": lambda: torch.linalg.cholesky(gram),
        "vectors": lambda: torch.exp(left),
        "loops": lambda: torch.softmax(left * 8, -1).sum(0),
        "square roots": lambda: torch.sqrt(left.abs()),
        "NumPy": lambda: left.numpy() @ right.numpy().T,
        "NumPy's loops": lambda: np.exp(left.numpy()),
    }
    digest = hashlib.sha256()
    for step in steps.values():
        digest.update(np.ascontiguousarray(step()).tobytes())
    return digest.hexdigest()
