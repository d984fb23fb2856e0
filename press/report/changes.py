"""What reran: the stages of dvc.lock now against those of an earlier commit."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from press.core import dvc_files, nested, paths, shell
from press.core.errors import UserError
from press.params import recorded


class State(StrEnum):
    """What became of a stage since the base revision."""

    UNCHANGED = "unchanged"
    SAME = "reran, same outputs"
    CHANGED = "reran, new outputs"
    NEW = "new"
    MISSING = "not built"
    REMOVED = "removed"


@dataclass(frozen=True)
class Change:
    """A stage's state, what made it run (paths and names of parameters), and the outputs that differ."""

    stage: str
    state: State
    because: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where the report's files come from in git: the commit at HEAD, and whether dvc.lock is committed."""

    # 40 hexadecimal digits; empty outside of git
    commit: str
    # Of the base revision; None if there is none to compare with
    base: str | None
    lock_committed: bool


def source(since: str | None) -> Source:
    """Find the revision to compare with: `since`, or else the commit before the last change of dvc.lock.

    If the dvc.lock here is not committed, its last change is the one here.

    :raises UserError: if git does not know `since`, or there was no dvc.lock then
    """
    commit = _git("rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        if since:
            raise UserError(f"--since {since} needs a git repository with a commit, and there is none here")
        return Source("", None, False)
    committed = _git("diff", "--quiet", "HEAD", "--", str(paths.LOCK)) is not None and _show("HEAD") is not None
    if since:
        base = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{since}^{{commit}}")
        if base is None:
            raise UserError(f"--since {since} is no revision that git knows: name a commit, a branch or a tag")
        if _show(base) is None:
            raise UserError(f"there is no {paths.LOCK} at --since {since}: name a later revision")
        return Source(commit, base, committed)
    touched = (_git("log", "--format=%H", "--max-count=2", "--", str(paths.LOCK)) or "").split()
    bases = touched[1:] if committed else touched[:1]
    return Source(commit, next((base for base in bases if _show(base) is not None), None), committed)


def compare(base: str | None, names: list[str]) -> list[Change]:
    """Compare dvc.lock here with that of a revision, for the pipeline's stages by name, then those that are gone.

    Without a revision to compare with, what is built is new.
    """
    now = dvc_files.recorded()
    before = _stages(_show(base) if base else None)
    gone = [Change(name, State.REMOVED) for name in before if name not in names]
    return [_compared(name, before.get(name), now.get(name)) for name in names] + gone


def output(stage: str, path: str) -> dict:
    """Return what dvc.lock says of a stage's output (its digest and bytes), or nothing if it does not know it."""
    entry = dvc_files.recorded().get(stage, {})
    return next((out for out in entry.get("outs", []) if out["path"] == path), {})


def agree(first: str, second: str) -> bool:
    """Whether dvc.lock says that two stages read the same of what both depend on; so it is where it lacks one."""
    stages = dvc_files.recorded()
    one, other = (_digests(stages.get(name, {}), "deps") for name in (first, second))
    return all(one[path] == other[path] for path in one.keys() & other.keys())


def _compared(name: str, before: dict | None, now: dict | None) -> Change:
    if now is None:
        return Change(name, State.MISSING)
    if before is None:
        return Change(name, State.NEW)
    because = _different(_inputs(before), _inputs(now))
    outputs = _different(_digests(before, "outs"), _digests(now, "outs"))
    if outputs:
        return Change(name, State.CHANGED, because, outputs)
    return Change(name, State.SAME if because else State.UNCHANGED, because)


def _inputs(entry: dict) -> dict[str, object]:
    params = {}
    for path, values in entry.get("params", {}).items():
        prefix = recorded.prefix(Path(path))
        params |= {f"{prefix}{leaf}": value for leaf, value in nested.flat(values).items()}
    return {"its command": entry.get("cmd")} | _digests(entry, "deps") | params


def _digests(entry: dict, of: str) -> dict[str, object]:
    return {each["path"]: each.get("md5") or each.get("etag") for each in entry.get(of, [])}


def _different(before: dict[str, object], now: dict[str, object]) -> tuple[str, ...]:
    absent = object()
    return tuple(name for name in now | before if before.get(name, absent) != now.get(name, absent))


def _stages(text: str | None) -> dict[str, dict]:
    return {} if text is None else dvc_files.stages(text)


def _show(revision: str) -> str | None:
    return _git("show", f"{revision}:./{paths.LOCK}")


def _git(*words: str) -> str | None:
    """Return what git prints, or None if it fails."""
    ended = shell.run("git", *words)
    return None if ended.failed else ended.output.strip()
