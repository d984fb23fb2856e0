"""One process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from press.core.errors import UserError


@contextmanager
def alone(lock: Path, sentence: str) -> Iterator[int]:
    """Hold a lock file; yield its descriptor, for processes that are to hold it, too.

    :param sentence: says who has it
    :raises UserError: with that sentence, if another process holds it
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(sentence) from error
        yield file.fileno()
