"""Run Olive passes in several processes, one a GPU, of this machine or of several nodes, by torchrun's launcher.

Each process runs the same passes, and torch.distributed gives it its rank; the result is that of rank 0.
"""

import contextlib
import ctypes
import errno
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from press.core import arithmetic, cli
from press.core.errors import UserError
from press.model import device, meeting, nodes, olive_run

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 1
# By which the processes of one machine reach each other.
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


def run(
    input_model: dict,
    passes: dict[str, dict],
    building: Path,
    processes: int,
    knobs: str,
    mode: str,
    what: str,
    met: meeting.Meeting | None = None,
) -> Path:
    """Run Olive passes as `olive_run.run` does, in several processes; return the folder of the first's result here.

    :param processes: of this machine
    :param knobs: what lowers the memory that is needed, for a GPU that is full
    :param mode: of arithmetic
    :param what: they do, for the sentence about one that was killed
    :param met: the other nodes that take part, each with as many processes
    :raises UserError: if a process refused its input, or was killed, or another node failed
    """
    import torch
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    node = met.node if met else nodes.Node()
    threads = max(1, torch.get_num_threads() // (processes * node.count))
    # What the launcher says of a failed process is said here.
    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    config = LaunchConfig(
        min_nodes=node.count,
        max_nodes=node.count,
        nproc_per_node=processes,
        max_restarts=0,
        **(_among(node) if met else _alone()),
        logs_specs=DefaultLogsSpecs(log_dir=str(building / "launcher")),
        # Ctrl-C and other signals end this process as they end one without a launcher, and it takes the others along.
        signals_to_handle="",
    )
    try:
        with _environment(threads, nodes.interface(node) if met else LOOPBACK):
            elastic_launch(config, work)(os.getpid(), input_model, passes, building, threads, knobs, mode)
    except ChildFailedError as error:
        raise _explained(error, building, what, met) from error
    except DistError as error:
        if met and (reason := met.wait_for_reason()):
            raise UserError(reason) from error
        raise
    return _folder(building, node.rank * processes) / "olive"


def _alone() -> dict[str, Any]:
    """Return how the processes of one machine find each other."""
    return {
        "run_id": uuid.uuid4().hex,
        "rdzv_backend": "c10d",
        "rdzv_endpoint": "localhost:0",
        "local_addr": "localhost",
    }


def _among(node: nodes.Node) -> dict[str, Any]:
    """Return how those of several nodes do; another backend would count the nodes by their addresses."""
    return {
        "run_id": "nodes",
        "rdzv_backend": "static",
        "rdzv_endpoint": f"{node.address}:{node.port}",
        "rdzv_configs": {"rank": node.rank, "timeout": meeting.LOST_SECONDS},
    }


def _folder(building: Path, rank: int) -> Path:
    """Return where a process builds."""
    return building / f"rank-{rank}" if rank else building


def work(
    parent: int, input_model: dict, passes: dict[str, dict], building: Path, threads: int, knobs: str, mode: str
) -> None:
    """Run the passes as one of the processes, on the GPU of its number; leave a sentence if that cannot be.

    :param parent: the process that launched this one
    """
    import torch

    cli.collect_rarely()
    _die_with(parent)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    rank = int(os.environ["RANK"])
    folder = _folder(building, rank)
    folder.mkdir(exist_ok=True)
    try:
        arithmetic.begin(mode, threads)
        # A pass ends a process that only helps the first; the launcher waits for each of them to return.
        with device.explained(knobs), contextlib.suppress(SystemExit):
            olive_run.run(input_model, passes, folder)
    except UserError as error:
        (building / f"failure-{rank}.txt").write_text(str(error), encoding="utf-8")
        sys.exit(1)
    except Exception as error:
        if cli.is_full_disk(error):
            sys.exit(errno.ENOSPC)
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        # What runs apart heeds no signal by which Python would end it here, and then wait for it.
        for process in multiprocessing.active_children():
            process.kill()


@contextlib.contextmanager
def _environment(threads: int, interface: str) -> Iterator[None]:
    """Set what the processes need in their environment, and take it back.

    :param interface: of the network, by which they reach each other
    """
    before = dict(os.environ)
    wanted = {
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
        "OMP_NUM_THREADS": str(threads),
        # PyTorch's C++ warns of what the pass asks for.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _die_with(parent: int) -> None:
    """Let this process end when its parent does, however that ends: nobody else may write checkpoints."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # It may have ended before.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        # Only Linux's kernel does it by itself.
        threading.Thread(target=_end_without, args=(parent,), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _explained(error: "ChildFailedError", building: Path, what: str, met: meeting.Meeting | None = None) -> Exception:
    """Return what made a process fail; a process that lost another fails, too, but leaves no sentence."""
    for path in sorted(building.glob("failure-*.txt")):
        return UserError(path.read_text(encoding="utf-8"))
    if met and met.reason:
        return UserError(met.reason)
    rank, failure = error.get_first_failure()
    if failure.exitcode == errno.ENOSPC:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if met and failure.exitcode != -signal.SIGKILL and (reason := met.wait_for_reason()):
        return UserError(reason)
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        return UserError(
            f"process {rank} of {what} was killed ({name}), as the system does where memory is short: run `dvc repro` "
            "again, which goes on from the last checkpoint if there is one, with fewer processes or more memory"
        )
    return RuntimeError(f"process {rank} of {what} failed:\n{failure.message}")
