"""A tarball for a box that no registry reaches: a release, and the unit that lets systemd serve it.

Its bytes are the same wherever and whenever it is made of the same release.
"""

import tarfile
from pathlib import Path

from press.core import files
from press.release import package
from press.release.package import Package

# What lies where on the box, the unit's head says.
UNIT = Path(__file__).parents[2] / "deploy/olive-press.service"
FOLDER = "package"


def write(released: Package, into: Path, name: str) -> Path:
    """Write a release and the unit into a tarball, and return where that is.

    :raises UserError: if it cannot be written there
    """
    target = path(into, name)
    with package.writing(target):
        into.mkdir(parents=True, exist_ok=True)
        with files.building(target) as scratch:
            made = scratch / target.name
            # Compressed, it would be hardly smaller, and other bytes by another zlib.
            with tarfile.open(made, "w", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, UNIT, UNIT.name)
                for each in sorted(released.digests):
                    _add(tar, released.folder / each, f"{FOLDER}/{each}")
            made.replace(target)
    return target


def path(into: Path, name: str) -> Path:
    """Return where a release's tarball is."""
    return into / f"{name}.tar"


def _add(tar: tarfile.TarFile, file: Path, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = file.stat().st_size
    with file.open("rb") as content:
        tar.addfile(entry, content)
