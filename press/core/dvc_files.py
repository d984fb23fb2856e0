"""The files in which DVC keeps its state, as a kill, a full disk or a merge leaves them."""

import json
from pathlib import Path

import yaml

from press.core import files, paths
from press.core.errors import UserError

RWLOCK = Path(".dvc/tmp/rwlock")
CONFLICT = "<<<<<<< "


def stages(text: str) -> dict[str, dict]:
    """Return the stages that the text of a dvc.lock records.

    :raises UserError: if it cannot be read
    """
    try:
        found = yaml.safe_load(text).get("stages", {})
        for stage in found.values():
            for each in (*stage.get("deps", []), *stage.get("outs", [])):
                Path(each["path"])
        return {name: {**stage} for name, stage in found.items()}
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
