"""The lock file: every package with its version, as `pip install --constraint` takes it.

python -m press.core.packages       resolve requirements.txt anew and write requirements.lock (`make lock`)
"""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from press.core.errors import UserError

REQUIREMENTS = Path("requirements.txt")
LOCK = Path("requirements.lock")
# What lm-eval adds to these; only who names tasks of it installs it.
TASKS = Path("requirements-tasks.txt")
INSTALL = "make install"
INSTALL_TASKS = "make install-tasks"
HEADER = "# Made by `make lock` from requirements.txt, for CPython 3.11 on Linux: every package with its version.\n"


def normalize(name: str) -> str:
    """Return a package's name as the registry compares names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: Path = LOCK) -> dict[str, str]:
    """Map the normalized name of each locked package to its version."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normalize(name): version for name, version in pairs}


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


def check_requirements(requirements: Path = REQUIREMENTS, path: Path = LOCK) -> None:
    """Refuse a requirements.txt that names other versions than the lock has."""
    from packaging.requirements import Requirement

    locked = read(path)
    lines = requirements.read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    wrong = [str(each) for each in wanted if str(each.specifier) != f"=={locked.get(normalize(each.name))}"]
    if wrong:
        raise UserError(f"{path} has other versions than {requirements} ({'; '.join(wrong[:3])}): run `make lock`")


def public(version: str) -> str:
    """Return a version without its local part: 2.13.0+cpu and 2.13.0 are builds of the same release."""
    return version.partition("+")[0]


def resolve() -> str:
    """Return the lock file's text for requirements.txt, resolved by pip against the package registry."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    result = subprocess.run([*command, "-r", str(REQUIREMENTS)], capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"pip cannot resolve {REQUIREMENTS}: {result.stderr.strip().splitlines()[-1]}")
    packages = [package["metadata"] for package in json.loads(result.stdout)["install"]]
    lines = sorted(f"{normalize(package['name'])}=={public(package['version'])}\n" for package in packages)
    return HEADER + "".join(lines)


if __name__ == "__main__":
    try:
        LOCK.write_text(resolve(), encoding="utf-8")
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{LOCK}: {len(read())} packages")
