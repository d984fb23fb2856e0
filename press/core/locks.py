"""One process at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from press.core.errors import UserError

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None


@contextmanager
def alone(lock: Path, sentence: str) -> Iterator[int]:
    """Hold a file, which is made if need be, or a folder; yield its descriptor, for processes that are to hold it, too.

    :param sentence: says who has it
    :raises UserError: with that sentence, if another process holds it; with another one on Windows
    """
    if fcntl is None:
        raise UserError("the pipeline's file locks are not on Windows: build on Linux or macOS; app.py runs here, too")
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDONLY if lock.is_dir() else os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(sentence) from error
        yield descriptor
    finally:
        os.close(descriptor)
