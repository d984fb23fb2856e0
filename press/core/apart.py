"""A function in a process of its own, for what others wrote: it may crash there, never end, or ask for all memory.

A signal ends only what Python itself computes: one operation of compiled code, such as `9 ** (9 ** 9)`, goes on for
hours, and another one takes all memory at once.
"""

import atexit
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

# How long the process may take to begin: it imports libraries.
STARTING = 60
# How long one that has closed its pipe may take to end.
ENDING = 5
# Bytes that it may have of its own.
MEMORY = 2 << 30


class ApartError(Exception):
    """What was asked for cannot be done; the message says why, in words that go behind a colon."""


class Apart:
    """A function in a process that begins when it is first asked, and again after it has been ended.

    :param make: makes the function there, of what is given. Both may raise ApartError; any other exception is a crash
    :param seconds: how long one answer may take
    """

    def __init__(self, make: Callable[..., Callable[..., Any]], *given: Any, seconds: float) -> None:
        self._make = make
        self._given = given
        self._seconds = seconds
        self._lock = threading.RLock()
        self._process: Any = None
        # What was asked last, until its answer was read.
        self._open: Future | None = None

    def __call__(self, *asked: Any) -> Any:
        """Return what the function returns.

        :raises ApartError: if it says so, crashes or takes too long
        """
        return self.begin(*asked)()

    def begin(self, *asked: Any) -> Callable[[], Any]:
        """Let the function begin, and return what waits for it and returns what it returns, as a call does."""
        answer: Future = Future()
        with self._lock:
            self._settle()
            try:
                if self._process is None or not self._process.is_alive():
                    self._start()
                self._send(asked)
                self._open = answer
            except ApartError as error:
                # Who waits is told.
                answer.set_exception(error)

        def wait() -> Any:
            with self._lock:
                if not answer.done():
                    self._settle()
            return answer.result()

        return wait

    def start(self) -> None:
        """Begin now, so that what keeps the function from being made is told at once."""
        with self._lock:
            self._start()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()

    def _start(self) -> None:
        self.close()
        context = multiprocessing.get_context("spawn")
        try:
            self._pipe, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, self._make, self._given), daemon=True)
            process.start()
        except OSError as error:
            raise ApartError(f"no process can begin for it ({error.strerror})") from error
        self._process = process
        theirs.close()
        # Before multiprocessing's own end, which would wait for a process that ignores its signal.
        atexit.unregister(self.close)
        atexit.register(self.close)
        self._answer(STARTING)

    def _send(self, asked: tuple) -> None:
        try:
            self._pipe.send(asked)
        except OSError:
            # It was ended while it waited, such as by the system for its memory.
            self._start()
            try:
                self._pipe.send(asked)
            except OSError as error:
                raise ApartError(self._end()) from error

    def _settle(self) -> None:
        """Read the answer that is still to come, if there is one."""
        answer, self._open = self._open, None
        if answer is not None:
            try:
                answer.set_result(self._answer(self._seconds))
            except BaseException as error:
                # Whoever waits for it must not wait for ever.
                answer.set_exception(error if isinstance(error, ApartError) else ApartError("it was interrupted"))
                if not isinstance(error, ApartError):
                    raise

    def _answer(self, seconds: float) -> Any:
        try:
            if self._pipe.poll(seconds):
                answer, reason = self._pipe.recv()
            else:
                self.close()
                raise ApartError(f"it takes more than {seconds} s")
        except (EOFError, OSError) as error:
            raise ApartError(self._end()) from error
        except BaseException:
            # Such as Ctrl-C: what is still to come would be taken for the answer to the next question.
            self.close()
            raise
        if reason:
            raise ApartError(reason)
        return answer

    def _end(self) -> str:
        """End the process, which answers no more; return how it came to that."""
        self._process.join(ENDING)
        killed = self._process.exitcode == -signal.SIGKILL
        self.close()
        return "it was killed, by the system for want of memory or by somebody" if killed else "it crashes"


def _work(asked: Connection, make: Callable[..., Callable[..., Any]], given: tuple) -> None:
    """Answer each question, until the program ends that asks them."""
    # Ctrl-C and a service manager's signal reach all processes, but what runs is to be finished.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    _bound_memory()
    function = None
    try:
        while True:
            try:
                if function is None:
                    function, answer = make(*given), None
                else:
                    answer = function(*asked.recv())
                asked.send((answer, ""))
            except (ApartError, MemoryError) as error:
                reason = str(error) if isinstance(error, ApartError) else f"it takes more than {MEMORY >> 30} GiB"
                asked.send((None, reason))
                if function is None:
                    return
    except (EOFError, ConnectionError):
        return


def _bound_memory() -> None:
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
