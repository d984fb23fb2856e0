"""The lock files, which `make lock` has uv write: every package with its version and hashes, in pip's format."""

import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from press.core.errors import UserError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

REQUIREMENTS = Path("requirements.txt")
LOCK = Path("requirements.lock")
# What lm-eval adds to these; only who names tasks of it installs it.
TASKS_REQUIREMENTS = Path("requirements-tasks.txt")
TASKS = Path("requirements-tasks.lock")
INSTALL = "make install"
INSTALL_TASKS = "make install-tasks"


def normalize(name: str) -> str:
    """Return a package's name as the registry compares names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: Path = LOCK) -> dict[str, str]:
    """Map the normalized name of each package that is locked for this interpreter and platform to its version.

    :raises UserError: if the file is no lock
    """
    wanted = [each for each in requirements(path) if not each.marker or each.marker.evaluate()]
    return {normalize(each.name): str(each.specifier).removeprefix("==") for each in wanted}


def requirements(path: Path) -> list["Requirement"]:
    """Return the requirements of a file in pip's format, for whatever platform, without options such as hashes.

    :raises UserError: if it is not in this format
    """
    from packaging.requirements import InvalidRequirement, Requirement

    parsed = []
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        text = re.split(r"(?:^|\s)(?:#|--)", line, maxsplit=1)[0].strip()
        try:
            parsed += [Requirement(text)] if text else []
        except InvalidRequirement as error:
            raise UserError(f"{path} has a line that is no requirement ({text!r}): run `git restore {path}`") from error
    return parsed


def check_installed(locked: dict[str, str]) -> None:
    """Refuse an environment whose packages are not the locked ones."""
    wrong = []
    for name, version in locked.items():
        try:
            installed = public(metadata.version(name))
        except metadata.PackageNotFoundError:
            installed = "missing"
        if installed != version:
            wrong.append(f"{name} is {installed}, locked {version}")
    if wrong:
        lacking = {line.split()[0] for line in wrong}
        path, command = (TASKS, INSTALL_TASKS) if TASKS.exists() and lacking <= set(read(TASKS)) else (LOCK, INSTALL)
        raise UserError(f"the environment differs from {path} ({'; '.join(wrong[:3])}): run `{command}`")


def check_requirements(path: Path = REQUIREMENTS, lock: Path = LOCK) -> None:
    """Refuse requirements that name other versions than their lock has."""
    locked = {normalize(each.name): each.specifier for each in requirements(lock)}
    wrong = [str(each) for each in requirements(path) if each.specifier != locked.get(normalize(each.name))]
    if wrong:
        raise UserError(f"{lock} has other versions than {path} ({'; '.join(wrong[:3])}): run `make lock`")


def public(version: str) -> str:
    """Return a version without its local part: 2.13.0+cpu and 2.13.0 are builds of the same release."""
    return version.partition("+")[0]
