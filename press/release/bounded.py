"""Call a library that may never return: in a process of its own, which is ended when its time is up."""

import argparse
import math
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar, TypeVarTuple

from press.core import cli
from press.core.errors import UserError

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


def time_limit(text: str) -> float:
    """Read a time limit in seconds from a command line."""
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return seconds


class Process:
    """A process that is started by the first call and takes the next ones as well, since libraries load for seconds.

    It ends with the program, or when a call's time is up; then the next call starts another.

    :param whom: what the functions ask, for the sentences
    """

    def __init__(self, whom: str) -> None:
        self._whom = whom
        self._running: BaseProcess | None = None

    def call(self, function: Callable[[*Arguments], T], *arguments: *Arguments, seconds: float) -> T:
        """Return what a function returns.

        :param function: of a module's top level; it may print, and show progress
        :param seconds: after which the process is killed; what the function does has to bear that
        :raises UserError: as the function raises it; if the time is up; or for any other failure of the function
        """
        try:
            if self._running is None:
                self._start()
            self._connection.send((function, arguments))
            if not self._connection.poll(seconds):
                raise UserError(
                    f"{self._whom} gave no answer in {seconds:.0f} s: check the network, then run this again"
                )
            reason, answer = self._connection.recv()
        except (EOFError, OSError):
            self.end()
            raise UserError(
                f"{self._whom} could not be asked: the process that did was ended; run this again"
            ) from None
        except BaseException:
            self.end()
            raise
        if reason:
            raise UserError(reason)
        return answer

    def end(self) -> None:
        """Kill the process, if there is one."""
        if self._running:
            self._running.kill()
            self._running.join()
            self._connection.close()
            self._running = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        running = context.Process(target=_answer, args=(theirs, self._whom), daemon=True)
        running.start()
        self._running = running
        theirs.close()


def call(function: Callable[[*Arguments], T], *arguments: *Arguments, seconds: float, whom: str) -> T:
    """Return what a function returns, called in a process for it alone; `Process` says how."""
    process = Process(whom)
    try:
        return process.call(function, *arguments, seconds=seconds)
    finally:
        process.end()


def _answer(asked: Connection, whom: str) -> None:
    # Ctrl-C reaches both processes; the other one ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            function, arguments = asked.recv()
        except EOFError:
            return
        asked.send(_outcome(function, arguments, whom))


def _outcome(function: Callable, arguments: tuple, whom: str) -> tuple[str | None, object]:
    """Return the reason for which a call failed, or None, and what it returned."""
    try:
        return None, function(*arguments)
    except UserError as error:
        return str(error), None
    except Exception as error:  # noqa: BLE001 - each library has its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        full = cli.is_full_disk(error)
        return cli.FULL_DISK if full else f"{whom} could not be asked: {reason}", None
