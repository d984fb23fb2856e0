"""Bound the processor time of what others wrote, such as a pattern or a template that never ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Of processor time, from one try to end it to the next.
AGAIN = 0.01


class LateError(Exception):
    """The time is up."""


@contextmanager
def processor_time(seconds: float, *within: str) -> Iterator[None]:
    """Raise LateError when the process has computed for so long, in the main thread.

    :param within: packages whose code alone may be ended, where compiled code beside them would not outlive it
    """

    def end(_: int, frame: FrameType | None) -> None:
        module = frame.f_globals.get("__name__", "") if frame else ""
        if not within or module.partition(".")[0] in within:
            raise LateError(f"it takes more than {seconds} s")

    signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, AGAIN)
    try:
        yield
    finally:
        # One that is on its way must not end the process.
        signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
