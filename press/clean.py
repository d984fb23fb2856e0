"""Remove the pipeline's outputs from the workspace, and what a kill left of them; the DVC cache keeps its copies.

python -m press.clean
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from press.core import cache, cli, dvc_files, files, paths
from press.core.errors import UserError

FOLDERS = ("downloads", "models", "packages", "prepared", "reports")
LEFTOVERS = (".*.partial", ".*.outgoing", ".*.checkpoints", ".*.download")


def outputs() -> list[Path]:
    """Return the paths of all outputs that dvc.lock names.

    :raises UserError: if it cannot be read, or names what is no output: who wrote it may not have been DVC
    """
    outs = [Path(out["path"]) for stage in dvc_files.recorded().values() for out in stage.get("outs", [])]
    for path in outs:
        if path.parts[:1] not in {(folder,) for folder in FOLDERS} or ".." in path.parts or paths.outside(path.parent):
            raise UserError(
                f"{paths.LOCK} names {path}, which is not in {', '.join(FOLDERS)} of this project: `git restore "
                f"{paths.LOCK}` brings back the committed one; nothing was removed"
            )
    return outs


def clean(named: list[Path]) -> list[Path]:
    """Remove outputs, the leftovers beside them and the folders that this empties; return what was removed."""
    parents = {parent for path in named for parent in path.parents if parent != Path()}
    leftovers = [path for folder in FOLDERS for pattern in LEFTOVERS for path in Path(folder).rglob(pattern)]
    removed = [path for path in (*named, *leftovers) if path.exists()]
    for path in removed:
        files.remove(path)
    for parent in sorted(parents, key=lambda path: -len(path.parts)):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    return removed


@contextmanager
def alone(named: list[Path]) -> Iterator[None]:
    """Hold DVC's own locks for writing outputs.

    :raises UserError: if a run of DVC has one of them
    """
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.rwlock import rwlock

    cache.configuration()
    dvc_files.remove_unreadable_rwlock()
    with Repo() as repo:
        written, hardlink = [str(path.absolute()) for path in named], repo.config["core"].get("hardlink_lock", False)
        try:
            with repo.lock, rwlock(repo.tmp_dir, repo.fs, "make clean", [], written, hardlink):
                yield
        except LockError as error:
            who = " ".join(str(error).partition("\n\n")[0].split())
            raise UserError(f"DVC is at work in this folder ({who}): wait for it or end it, then clean") from error


def main() -> None:
    """Clean, unless a run of DVC would have the ground taken from under its feet."""
    named = outputs()
    with alone(named):
        removed = clean(named)
    print(f"removed {len(removed)} outputs")


if __name__ == "__main__":
    cli.in_sentences(main)
