"""A package, built or in a release, with the digest of every file."""

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from press.core import files, paths
from press.core.errors import UserError
from press.model import packaged

# Folders that belong to the pipeline.
MADE = sorted(
    {
        path.parts[0]
        for path in (paths.BASE, paths.DOWNLOADS, paths.PREPARED, paths.PACKAGES, paths.REPORTS, paths.RELEASES)
    }
)


@dataclass(frozen=True)
class Package:
    """A package folder with its manifest, and the SHA-256 of every file that is there."""

    folder: Path
    manifest: dict
    digests: dict[str, str]

    @property
    def digest(self) -> str:
        """The SHA-256 of the manifest, which names every file's."""
        return self.digests[paths.MANIFEST]

    @property
    def figures(self) -> str:
        """The loss of each adapter in ONNX on its held-out answers."""
        scores = files.read_json(self.folder / paths.METRICS)
        onnx = {name: scored["onnx"] for name, scored in scores.items() if "adapter" in scored.get("onnx", {})}
        losses = {name: rungs["adapter"]["loss"] for name, rungs in onnx.items()}
        return ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())


def load(folder: Path, beside: Collection[str] = ()) -> Package:
    """Read a package and check that it holds exactly the files of its manifest, and that none of them names code.

    :param beside: names of files that may lie beside them
    :raises UserError: if it does not, naming the first file or setting that is wrong
    """
    return Package(folder, *packaged.open_package(folder, beside))


def check_new(folder: Path) -> None:
    """Refuse a folder for a fetched package that is there, cannot be made, or is among what others fill.

    :raises UserError: with what would be right
    """
    if os.path.lexists(folder):
        raise UserError(f"{folder} exists: name a new folder")
    check_own(folder)
    place = folder.resolve()
    there = next(parent for parent in place.parents if os.path.exists(parent))
    try:
        with tempfile.TemporaryDirectory(dir=there) as scratch:
            files.partial(Path(scratch) / place.relative_to(there)).mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}): name a folder that you may write to") from error


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Say it in a sentence if what is done meanwhile cannot write there."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}): name a folder that you may write to"
        ) from error


def check_own(folder: Path) -> None:
    """Refuse a folder that git, DVC or the pipeline fill.

    :raises UserError: with what would be right
    """
    place = folder.resolve()
    kept = [part for part in place.parts if part.lower() in (".git", ".dvc")]
    kept += [name for name in MADE if place.is_relative_to(Path(name).resolve())]
    if kept:
        raise UserError(f"{folder} is in {kept[0]}, which git, DVC or the pipeline fill: name a folder elsewhere")
