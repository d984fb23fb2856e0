"""The files in which DVC keeps its state, as a kill, a full disk or a merge leaves them."""

import hashlib
import json
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import yaml

from press.core import files, paths
from press.core.errors import UserError

IGNORED = Path(".dvcignore")
RWLOCK = Path(".dvc/tmp/rwlock")
CONFLICT = "<<<<<<< "


def stages(text: str) -> dict[str, dict]:
    """Return the stages that the text of a dvc.lock records.

    :raises UserError: if it cannot be read
    """
    try:
        entries = yaml.safe_load(text).get("stages", {})
        for stage in entries.values():
            for each in (*stage.get("deps", []), *stage.get("outs", [])):
                Path(each["path"])
        return {name: {**stage} for name, stage in entries.items()}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, RecursionError) as error:
        marks = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith(CONFLICT)]
        what = f"has a merge conflict in line {marks[0]}" if marks else "is no lock file of DVC"
        raise UserError(
            f"{paths.LOCK} {what}: `git checkout --ours {paths.LOCK}` takes your side of a merge, `git restore "
            f"{paths.LOCK}` brings back the committed one; `make repro` then builds what it lacks"
        ) from error


def recorded() -> dict[str, dict]:
    """Return the stages that dvc.lock records here; none if there is no such file.

    :raises UserError: if it cannot be read
    """
    if not paths.LOCK.exists():
        return {}
    try:
        return stages(paths.LOCK.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise UserError(f"{paths.LOCK} cannot be read ({error.strerror}): it must be a file") from error


def outputs(stage: dict) -> dict[Path, str]:
    """Map the path of each output of a stage in dvc.lock to the digest that DVC records: the MD5 of its bytes."""
    return {Path(out["path"]): out["md5"] for out in stage.get("outs", []) if "md5" in out}


def overlap(path: Path, others: Iterable[Path]) -> bool:
    """Whether a path is one of others, in one of them, or has one in it."""
    return any(path.is_relative_to(other) or other.is_relative_to(path) for other in others)


def digest(path: Path) -> str:
    """Return the digest by which DVC knows what is at a path, every byte read.

    :return: MD5 of a file's bytes, or that of the list of a folder's files, with .dir behind it
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, _md5).hexdigest()
    lines = IGNORED.read_text(encoding="utf-8").splitlines() if IGNORED.exists() else []
    names = sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
    members = [{"md5": digest(path / name), "relpath": name} for name in names if not _is_ignored(name, lines)]
    return f"{_md5(json.dumps(members, sort_keys=True).encode()).hexdigest()}.dir"


def _is_ignored(name: str, lines: list[str]) -> bool:
    """Whether .dvcignore leaves a file out; here it has names alone."""
    return any(fnmatch(part, line) for part in name.split("/") for line in lines)


def _md5(content: bytes = b"") -> "hashlib._Hash":
    return hashlib.md5(content, usedforsecurity=False)


def has_unreadable_rwlock() -> bool:
    """Whether the file in which DVC's processes tell each other what they read and write says nothing.

    A kill or a full disk leaves it empty, and no command of DVC's works with it.
    """
    try:
        return RWLOCK.exists() and not isinstance(json.loads(RWLOCK.read_bytes()), dict)
    except (ValueError, OSError):
        return True


def remove_unreadable_rwlock() -> None:
    """Remove that file if it says nothing: whoever wrote it has ended."""
    if has_unreadable_rwlock():
        files.remove(RWLOCK)
