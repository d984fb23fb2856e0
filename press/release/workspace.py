"""What must be true of the working folder before something is released or published from it."""

import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import yaml

from press.core import dvc_files, paths, shell
from press.core.errors import UserError

DEPENDENCIES, OUTPUTS = "changed deps", "changed outs"


def check_committed() -> None:
    """Refuse a working tree that differs from HEAD: nobody else could rebuild the package."""
    changed = shell.output("git", "status", "--porcelain").splitlines()
    if changed:
        raise UserError(f"{changed[0][3:]} and what else `git status` names is not committed: commit it, then publish")


def check_tracked(*needed: Path) -> None:
    """Refuse a file that HEAD does not hold: nobody else could build or fetch what it names."""
    tracked = shell.output("git", "ls-tree", "-r", "-z", "--name-only", "HEAD", "--", *map(str, needed)).split("\0")
    missing = [path for path in needed if path.as_posix() not in tracked]
    if missing:
        released = missing[0].is_relative_to(paths.RELEASES)
        first = "`make release` writes it, " if released else ""
        raise UserError(
            f"{missing[0]} is not in the commit at HEAD: {first}`git add --force {missing[0]}`, commit it, then publish"
        )


def check_up_to_date(but: Path | None = None) -> None:
    """Refuse outputs that are not those of the code, data and parameters, or not those that dvc.lock names.

    :param but: a folder with outputs that may be of another state
    """
    dvc_files.recorded()
    outdated = _without(but, status(hashed=True))
    if not outdated:
        return
    released = [name for name in outdated if Path(name).is_relative_to(paths.RELEASES)]
    if released:
        name = released[0].removesuffix(".dvc")
        raise UserError(f"{name} is not what {released[0]} names: `make release`, commit, then publish")
    known = _without(but, status())
    if known:
        raise UserError(f"{', '.join(known)} not up to date: `dvc repro`, commit dvc.lock, then publish")
    makers = [name for name, entries in outdated.items() if changed({name: entries}, OUTPUTS)]
    names = ", ".join(changed(outdated, OUTPUTS) or changed(outdated, DEPENDENCIES))
    what = f"{names} is not what {paths.LOCK} names, though DVC, which looked once, takes it for that"
    if makers:
        raise UserError(f"{what}: `make pull` brings back what is named, then {built_anew(makers)}")
    raise UserError(f"{what}: `touch` what is in there, then `dvc repro`")


def is_changed(folder: Path) -> bool:
    """Whether a folder that DVC was told to track is not what its .dvc file names; not if there is none."""
    tracked = Path(f"{folder}.dvc")
    return tracked.exists() and bool(status(str(tracked), hashed=True))


def built_anew(stages: Iterable[str]) -> str:
    """Say what replaces that which was built from wrong outputs of stages, and what dvc.lock cannot tell from it."""
    return f"`dvc repro --force --downstream {' '.join(stages)}` builds anew what came of it here"


def check_artifact(name: str, folder: Path) -> None:
    """Refuse an artifact that dvc.yaml does not know, or knows as something else."""
    artifacts = yaml.safe_load(paths.PIPELINE.read_text(encoding="utf-8")).get("artifacts", {})
    if name not in artifacts:
        raise UserError(
            f"dvc.yaml has no artifact {name!r}, only {', '.join(artifacts) or 'none'}: mend publish.git.artifact"
        )
    if Path(artifacts[name]["path"]) != folder:
        raise UserError(f"dvc.yaml says that {name} is {artifacts[name]['path']}, but publish.target means {folder}")


def status(*names: str, hashed: bool = False) -> dict[str, list]:
    """Return what DVC has to say of each stage that is not up to date.

    :param names: of stages or .dvc files; all by default
    :param hashed: whether to read every file, and not to trust what DVC remembers of those that it has seen
    """
    dvc_files.remove_unreadable_rwlock()
    command = [sys.executable, "-m", "dvc", "status", "--json", *names]
    if not hashed:
        return json.loads(shell.output(*command))
    with tempfile.TemporaryDirectory() as memory:
        return json.loads(shell.output(*command, environment={**os.environ, "DVC_SITE_CACHE_DIR": memory}))


def changed(stages: dict[str, list], kind: str, how: str = "") -> list[str]:
    """Return the paths that `status` says to be changed, each once.

    :param kind: DEPENDENCIES or OUTPUTS
    :param how: one of DVC's words for it, or any
    """
    entries = [entry for stage in stages.values() for entry in stage if isinstance(entry, dict)]
    each = [item for entry in entries for item in entry.get(kind, {}).items()]
    return list(dict.fromkeys(path for path, word in each if how in ("", word)))


def _without(folder: Path | None, entries: dict[str, list]) -> dict[str, list]:
    return {name: of for name, of in entries.items() if not (folder and Path(name).is_relative_to(folder))}
