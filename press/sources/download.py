"""Bring a checkpoint's files from a server: checked before the first gigabyte, with progress, resumed after a kill."""

import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from press.core import files
from press.core.errors import UserError
from press.model import architectures, checkpoints
from press.sources import members

# What has to be read before the rest is asked for.
FIRST = ("config.json", checkpoints.INDEX)
# Seconds between two lines of progress in a log, and between two updates on a terminal.
LOG_SECONDS, TERMINAL_SECONDS = 10, 0.5


@dataclass(frozen=True)
class RemoteFile:
    """A file of a model on a server.

    :param name: without folders
    :param size: bytes
    :param append: `append(file, offset, bar)` writes the bytes from `offset` on to an open file, and counts them in bar
    :param digest: of its content, as `digest_of` returns it for a copy; None if the server tells none
    :param digest_of: reads a copy
    """

    name: str
    size: int
    append: Callable[[BinaryIO, int, tqdm], None]
    digest: str | None = None
    digest_of: Callable[[Path], str] = files.sha256

    def is_in(self, folder: Path) -> bool:
        """Whether a folder holds this very file, by its digest."""
        path = folder / self.name
        same_size = path.is_file() and path.stat().st_size == self.size
        return same_size and self.digest is not None and self.digest_of(path) == self.digest


@dataclass(frozen=True)
class Folders:
    """Where a download goes.

    :param target: an empty folder for the finished checkpoint
    :param parts: on the same file system; keeps what is there of one download until it is removed
    :param previous: a checkpoint some of whose files may be wanted again
    """

    target: Path
    parts: Path
    previous: Path

    def of(self, name: str) -> Path:
        """Return the folder for the parts of the download of that name, and drop those of others, given up."""
        folder = self.parts / name.replace("/", "--")
        for path in self.parts.glob("*"):
            if path != folder:
                files.remove(path)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def checkpoint(listed: Iterable[RemoteFile], trust: bool, what: str, name: str, folders: Folders) -> None:
    """Download a checkpoint into `folders.target`.

    :param listed: the server's files
    :param trust: whether the checkpoint's own Python code is wanted
    :param what: the model, for sentences
    :param name: the model, as a name that no other model or revision has
    :raises UserError: if the server's files are no checkpoint that the pipeline takes, do not fit on the disk, or
        arrive damaged
    """
    listed = list(listed)
    names = {file.name for file in listed}
    checkpoints.check_names(names, what)
    wanted = [file for file in listed if members.is_kept(file.name, trust)]
    folder = folders.of(name)
    bring([file for file in wanted if file.name in FIRST], folder, folders.previous)
    architectures.read(folder / "config.json")
    weights = checkpoints.weight_files(folder, names, what)
    wanted = [file for file in wanted if file.name in weights or not file.name.endswith(".safetensors")]
    files.check_space(folder, sum(file.size for file in wanted) - _there(wanted, folder), what)
    bring(wanted, folder, folders.previous, what)
    place(folder, [file.name for file in wanted], folders.target)


def _there(wanted: Iterable[RemoteFile], folder: Path) -> int:
    """Return the bytes that a folder has of some files, whole or in part."""
    paths = [folder / file.name for file in wanted]
    return sum(part.stat().st_size for path in paths for part in (path, files.partial(path)) if part.exists())


def bring(wanted: Sequence[RemoteFile], folder: Path, previous: Path, label: str | None = None) -> None:
    """Download what a folder does not have of some files.

    :param label: before the bar that shows the progress; without one there is no bar
    """
    seconds = TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS
    total, done = sum(file.size for file in wanted), _there(wanted, folder)
    options = {"unit": "B", "unit_scale": True, "mininterval": seconds, "maxinterval": seconds}
    with tqdm(total=total, initial=done, desc=label, disable=label is None, **options) as bar:
        for file in wanted:
            if not (folder / file.name).exists():
                _bring(file, folder / file.name, previous, bar)


def _bring(file: RemoteFile, path: Path, previous: Path, bar: tqdm) -> None:
    part = files.partial(path)
    if part.is_symlink() or not part.is_file():
        # What is written there is to be the file itself.
        files.remove(part)
    if not part.exists() and file.is_in(previous):
        shutil.copyfile(previous / file.name, part)
        bar.update(file.size)
    with part.open("ab") as opened:
        if opened.tell() < file.size:
            file.append(opened, opened.tell(), bar)
    if part.stat().st_size != file.size or (file.digest and file.digest_of(part) != file.digest):
        part.unlink()
        raise UserError(f"{file.name} arrived damaged and was thrown away: run this again to download it anew")
    part.replace(path)


def place(folder: Path, names: Iterable[str], target: Path) -> None:
    """Put files of a folder into another one without holding their bytes twice.

    They stay in both where the file system can do that, so that a kill before `target` is published loses nothing.
    """
    for name in names:
        try:
            (target / name).hardlink_to(folder / name)
        except OSError:
            (folder / name).replace(target / name)
