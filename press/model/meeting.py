"""How the nodes that train one adapter together meet, and how each learns that another is lost.

PyTorch's launcher does not look after the nodes: where one goes away, the others would wait for it in a sum for half an
hour.
"""

import contextlib
import itertools
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from press.core.errors import UserError
from press.model.nodes import Node, free_port

if TYPE_CHECKING:
    from torch.distributed import TCPStore

# How long a node waits for the others to come, as torchrun does.
JOIN_SECONDS = 900
# Nothing heard of a node for so long is its end; each is heard at every beat.
LOST_SECONDS = 60
BEAT_SECONDS = 1
# How long the first node, which keeps what they tell each other, stays for the others to read it.
LEAVE_SECONDS = 10
FAILED, LEFT = "failed", "left"


@contextlib.contextmanager
def meeting(node: Node, inputs: str) -> Iterator["Meeting"]:
    """Wait for all nodes, watch them for the length of the block, and tell them if it fails.

    :param inputs: a digest of what the training depends on, which must be the same on all
    :raises UserError: if a node does not come, or has other inputs
    """
    met = Meeting(_beside_launcher(node), inputs)
    try:
        met.wait_for_all()
        threading.Thread(target=met.watch, daemon=True).start()
        yield met
    except BaseException as error:
        met.leave(str(error).partition("\n")[0] or type(error).__name__)
        raise
    met.leave()


class Meeting:
    """What the nodes tell each other, which the first of them keeps in PyTorch's store.

    A thread of its own asks it: where the first node's machine is gone, the answer may never come, timeout or not.
    """

    def __init__(self, node: Node, inputs: str) -> None:
        """Begin to keep it, or wait for the node that does.

        :raises UserError: if that cannot be, or does not come
        """
        self.node = node
        # Why the training cannot go on, once another node is known to have failed.
        self.reason = ""
        self._inputs = {node.rank: inputs}
        self._known = threading.Event()
        self._over = threading.Event()
        self._own_reason = ""
        if node.rank:
            _reach(node)
        else:
            self._kept = self._keep()
        self._heard = dict.fromkeys(range(node.count), ("", time.monotonic()))
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def wait_for_all(self) -> None:
        """Wait until all nodes are here.

        :raises UserError: if one does not come or has other inputs
        """
        end = time.monotonic() + JOIN_SECONDS
        while len(self._inputs) < self.node.count:
            if reason := self.reason or self._silent(0):
                raise UserError(reason)
            if time.monotonic() > end:
                missing = sorted(set(range(self.node.count)) - self._inputs.keys())
                raise UserError(
                    f"of {self.node.count} nodes, {' and '.join(map(str, missing))} did not come to "
                    f"{self.node.address}:{self.node.port} within {JOIN_SECONDS} s: start the training on all again"
                )
            time.sleep(0.1)
        for rank, inputs in sorted(self._inputs.items()):
            if inputs != self._inputs[0]:
                raise UserError(
                    f"node {rank} would train on something else than node 0: parameters, base, examples, device, "
                    "libraries and code must be the same on all"
                )

    def watch(self) -> None:
        """End the processes of this node when another one has failed or is gone."""
        while not self._over.wait(0.1):
            silent = (self._silent(rank) for rank in self._others())
            self._end(self.reason or next(filter(None, silent), ""))
            if self.reason:
                break
        end = time.monotonic() + LOST_SECONDS
        # They may only just begin.
        while not self._over.wait(0.1):
            for process in multiprocessing.active_children():
                process.kill()
            if self.node.rank and time.monotonic() > end:
                # The launcher itself waits for the first node.
                print(f"error: {self.reason}", file=sys.stderr, flush=True)
                os._exit(1)

    def wait_for_reason(self) -> str:
        """Return why the training failed on another node, if it is told or one turns out to be gone; else nothing."""
        self._known.wait(LOST_SECONDS + LEAVE_SECONDS)
        return self.reason

    def leave(self, reason: str = "") -> None:
        """Watch no more; the first node stays until the others have left, too.

        :param reason: why it failed here, for the others
        """
        self._own_reason = reason
        self._over.set()
        self._listener.join(LEAVE_SECONDS if self.node.rank else 2 * LEAVE_SECONDS)

    def _keep(self) -> "TCPStore":
        from torch.distributed import DistError

        try:
            store = _store(self.node, hosts=True)
        except DistError as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"the nodes cannot meet at {self.node.address}:{self.node.port} ({reason})") from error
        store.set(FAILED, "")
        return store

    def _listen(self) -> None:
        """Say that this node is there, and hear of the others, until its training ends."""
        from torch.distributed import DistError

        own = self.node.rank
        try:
            store = _store(self.node, hosts=False)
            store.set(f"inputs/{own}", self._inputs[own])
            for beat in itertools.count():
                store.set(f"beat/{own}", str(beat))
                self._hear(store)
                if self._over.wait(BEAT_SECONDS):
                    break
            if self._own_reason:
                store.compare_set(FAILED, "", f"node {own} of {self.node.count} failed: {self._own_reason}")
            store.set(f"beat/{own}", LEFT)
            # The first takes what is told here along. Its thread ends by itself: to end Python while a thread is in
            # PyTorch's C++ aborts the process.
            end = time.monotonic() + LEAVE_SECONDS
            while own == 0 and time.monotonic() < end and self._some_are_here():
                time.sleep(0.1)
                self._hear(store)
        except DistError:
            self._end(self._gone(0))

    def _hear(self, store: "TCPStore") -> None:
        for rank in self._others():
            if rank not in self._inputs and store.check([f"inputs/{rank}"]):
                self._inputs[rank] = store.get(f"inputs/{rank}").decode()
            said = store.get(f"beat/{rank}").decode() if store.check([f"beat/{rank}"]) else ""
            if said != self._heard[rank][0] or said in ("", LEFT):
                self._heard[rank] = said, time.monotonic()
        self._end(store.get(FAILED).decode())

    def _end(self, reason: str) -> None:
        """Keep why the training cannot go on, the first time that there is a reason."""
        if reason and not self.reason:
            self.reason = reason
            self._known.set()

    def _others(self) -> list[int]:
        return [rank for rank in range(self.node.count) if rank != self.node.rank]

    def _some_are_here(self) -> bool:
        """Tell whether another node has been heard of that has not said that it left."""
        return any(self._heard[rank][0] not in ("", LEFT) for rank in self._others())

    def _silent(self, rank: int) -> str:
        """Return that a node is gone if nothing has been heard of it for long."""
        lost = rank != self.node.rank and time.monotonic() - self._heard[rank][1] > LOST_SECONDS
        return self._gone(rank) if lost else ""

    def _gone(self, rank: int) -> str:
        return (
            f"node {rank} of {self.node.count} is gone: start the training on all again, which goes on from the last "
            "checkpoint if the nodes share their disk"
        )


def _store(node: Node, *, hosts: bool, seconds: float = 60) -> "TCPStore":
    """Return a connection to what the first node keeps, or begin to keep it, as the launcher does in this process."""
    from torch.distributed import TCPStore

    return TCPStore(
        node.address,
        node.port,
        is_master=hosts,
        timeout=timedelta(seconds=seconds),
        wait_for_workers=False,
        multi_tenant=True,
    )


def _reach(node: Node) -> None:
    """Wait until the first node answers: PyTorch's own wait prints a traceback a try.

    :raises UserError: if it does not
    """
    end = time.monotonic() + JOIN_SECONDS
    while True:
        try:
            socket.create_connection((node.address, node.port), timeout=10).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(
                    f"node 0 of {node.count} does not answer at {node.address}:{node.port} within {JOIN_SECONDS} s "
                    f"({error.strerror or error}): start the training on all, and let the nodes reach each other"
                ) from error
        time.sleep(0.5)


def _beside_launcher(node: Node) -> Node:
    """Return the node with a port of its own where that of the variables is the one of a torchrun around all this."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return node
    store = _store(node, hosts=False, seconds=JOIN_SECONDS)
    key = f"olive-press/{os.environ.get('TORCHELASTIC_RUN_ID')}/{os.environ.get('TORCHELASTIC_RESTART_COUNT')}/port"
    if node.rank == 0:
        store.set(key, str(free_port()))
    return replace(node, port=int(store.get(key)))
