"""Write outputs whole or not at all, and name their content by digest."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from press.core import locks
from press.core.errors import UserError

PARTIAL_SUFFIX = ".partial"
# Bytes that are digested at a time: where another thread works, Python takes milliseconds to come back from each.
BLOCK = 1 << 25


def partial(target: Path) -> Path:
    """Return the hidden file or folder beside `target` in which its next version is built."""
    return target.parent / f".{target.name}{PARTIAL_SUFFIX}"


def fresh(target: Path) -> Path:
    """Return `partial(target)`, where nothing is any more: neither what a kill left nor a link to write through."""
    building = partial(target)
    remove(building)
    return building


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` to build its next version in, and remove it afterwards.

    After an error or a kill it is left over, for a look or for the next call to remove.
    """
    folder = partial(target)
    if folder.is_dir() and not folder.is_symlink():
        # A run whose DVC was killed may still be at it.
        with _locked(folder, target):
            remove(folder)
    fresh(target).mkdir(parents=True)
    with _locked(folder, target):
        yield folder
        remove(folder)


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` when the block succeeds; until then it stays."""
    with building(target) as folder:
        yield folder
        publish(folder, target)


def _locked(folder: Path, target: Path) -> AbstractContextManager[int]:
    return locks.alone(folder, f"another process is still building {target}: wait for it, or end it")


def publish(source: Path, target: Path) -> None:
    """Put `source` (a folder on the same file system) in the place of `target`."""
    for path in (source, *source.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    outgoing = target.parent / f".{target.name}.outgoing"
    remove(outgoing)
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        target.rename(outgoing)
    source.rename(target)
    remove(outgoing)


def remove(path: Path) -> None:
    """Remove a file, a folder or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as `json_text` has it, whole or not at all.

    :raises UserError: if there is a folder in its place
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    building = fresh(path)
    building.write_text(json_text(value), encoding="utf-8")
    put(building, path)


def put(building: Path, target: Path) -> None:
    """Put a file in the place of another one, of a link or of nothing.

    :raises UserError: if there is a folder
    """
    try:
        building.replace(target)
    except IsADirectoryError as error:
        remove(building)
        raise UserError(f"{target} is a folder, but a file is to be written there: remove it") from error


def json_text(value: object) -> str:
    """Return `value` as indented JSON that ends with a newline."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read_json(path: Path) -> dict:
    """Read a JSON file that this pipeline wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        block = memoryview(bytearray(min(BLOCK, os.fstat(file.fileno()).st_size) or 1))
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """Map the relative POSIX path of every file below `folder` to its SHA-256, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def folder_digest(folder: Path) -> str:
    """Return one SHA-256 over the names and contents of all files below `folder`."""
    listing = "".join(f"{digest}  {name}\n" for name, digest in digests(folder).items())
    return hashlib.sha256(listing.encode()).hexdigest()


@contextmanager
def digesting(folder: Path) -> Iterator[Future[str]]:
    """Take `folder_digest` beside the block, which another core can do."""
    with ThreadPoolExecutor(1) as aside:
        yield aside.submit(folder_digest, folder)


def size(folder: Path) -> int:
    """Return the bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin to write what does not fit on the disk that holds `folder`.

    :param needed: bytes
    :param what: that needs them, for the sentence
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} needs {readable(needed)} of disk in {folder.absolute()}, which has {readable(free)} left: free "
            f"{readable(needed - free)}, then run this again"
        )


def readable(size: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= of:
            return f"{size / of:.1f} {unit}"
    return f"{size} B"
