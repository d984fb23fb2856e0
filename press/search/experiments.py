"""Trials as DVC experiments: each worker builds them in a clone of its own, which shares the project's DVC cache.

The project's own files stay as they are: a trial arrives as a reference that `dvc exp show` lists and `dvc exp apply`
puts into the workspace.
"""

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from press.core import environment, files, locks, paths, shell
from press.core.errors import UserError
from press.params import preset
from press.release import storage

FOLDER = Path(".dvc/tmp/search")
LOCK = FOLDER / "lock"
# What a trial changes, reports aside.
OWN = (paths.PARAMS, paths.LOCK)
# The block of params.yaml that is about the search, with the comments and empty lines below it.
BLOCK = re.compile(r"^search:.*\n(?:(?:[ \t#].*)?\n)*", re.MULTILINE)
GRACE_SECONDS = 30
# Names of files in one sentence.
SHOWN = 3


class FailedError(Exception):
    """A trial could not be built; the message is one sentence that says why."""


@dataclass(frozen=True)
class Experiment:
    """An experiment of this project: its name, its commit's reference and the commit that it changes."""

    name: str
    reference: str

    @property
    def baseline(self) -> str:
        """Full hash of the commit that the experiment changes."""
        _, _, first, rest, _ = self.reference.split("/")
        return first + rest


def alone() -> AbstractContextManager[int]:
    """Hold the project's lock for searching, for the processes that share its descriptor, too."""
    return locks.alone(LOCK, "a search is running in this folder, or a trial that it left: wait for it")


def state(revision: str = "HEAD") -> str:
    """Return a digest of a commit's files, the search's own settings left out."""
    listed = git("ls-tree", "-r", "--full-tree", revision).splitlines()
    listed = [line for line in listed if not line.endswith(f"\t{paths.PARAMS}")]
    text = "\n".join([*listed, without_search(git("show", f"{revision}:{paths.PARAMS}"))])
    return hashlib.sha256(text.encode()).hexdigest()


def check_committed() -> None:
    """Refuse changes that are not committed, but for the search's own settings.

    :raises UserError: naming the files
    """
    changed = git("diff", "--name-only", "HEAD").splitlines()
    if str(paths.PARAMS) in changed:
        here = paths.PARAMS.read_text(encoding="utf-8").strip()
        if without_search(here) == without_search(git("show", f"HEAD:{paths.PARAMS}")):
            changed.remove(str(paths.PARAMS))
    if changed:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise UserError(
            f"{', '.join(changed[:SHOWN])}{more}: not committed, but trials are built from the last commit: "
            "commit what they need, take back the rest with `git restore`"
        )


def without_search(text: str) -> str:
    """Return the text of params.yaml without the search's settings."""
    return BLOCK.sub("", text.strip() + "\n").strip()


def known() -> dict[str, Experiment]:
    """Return all experiments of this repository by their names."""
    references = git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    experiments = [Experiment(each.rpartition("/")[2], each) for each in references if _is_experiment(each)]
    return {each.name: each for each in experiments}


def reference(name: str, baseline: str) -> str:
    """Return an experiment's reference.

    :param baseline: full hash of the commit that it changes
    """
    return f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}"


def wanted(target: str) -> list[str]:
    """Return the stages that a trial is to build."""
    return [f"{stage}@{target}" for stage in ("evaluate", "package")]


def take(name: str, baseline: str, text: str, bundle: bytes) -> str:
    """Take over an experiment that another machine has built.

    :param baseline: full hash of the commit that it changes
    :param text: of its params.yaml
    :param bundle: it, as `git bundle` writes it
    :return: its commit
    :raises UserError: if it is damaged, or another one; then nothing of it is here
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bundle")
        path.write_bytes(bundle)
        git("fetch", "--quiet", "--no-tags", str(path), reference(name, baseline))
    commit = git("rev-parse", "FETCH_HEAD")
    changed = git("diff", "--name-only", "--no-renames", baseline, commit).splitlines()
    others = {each for each in changed if not Path(each).is_relative_to("reports")} - {*map(str, OWN)}
    # As `git` gives it, without the blank at its end.
    is_asked = git("show", f"{commit}:{paths.PARAMS}") == text.strip()
    if git("rev-parse", f"{commit}^") != baseline or others or not is_asked:
        raise UserError("what its machine has built is another trial: look at that machine")
    git("update-ref", reference(name, baseline), commit)
    return commit


def apply(name: str) -> None:
    """Put an experiment's parameters and outputs into the workspace; the search's settings stay as they are.

    :raises UserError: if there is no such experiment, or if it would take back what has changed since
    """
    experiments = known()
    if name not in experiments:
        raise UserError(f"there is no experiment {name!r}, only {', '.join(sorted(experiments)) or 'none at all'}")
    check_committed()
    baseline = experiments[name].baseline
    if state(baseline) != state():
        raise UserError(
            f"{name} changes the commit {baseline[:12]}, and files have changed since: go back to it with `git switch "
            f"--detach {baseline[:12]}`, or search again (what has not changed comes out of the cache)"
        )
    block = BLOCK.search(paths.PARAMS.read_text(encoding="utf-8") + "\n")
    applied = shell.run(sys.executable, "-m", "dvc", "exp", "apply", name, environment=variables())
    if applied.failed:
        if paths.LOCK.read_text(encoding="utf-8").strip() != git("show", f"{experiments[name].reference}:{paths.LOCK}"):
            raise UserError(f"`dvc exp apply {name}` failed: {applied.reason}")
        # What machines of a cluster have built is on the remote.
        storage.pull(storage.SECONDS)
    if block:
        text = paths.PARAMS.read_text(encoding="utf-8")
        paths.PARAMS.write_text(BLOCK.sub(lambda _: block[0], text), encoding="utf-8")


class Worker:
    """A clone of the project in which trials are built, one after the other."""

    def __init__(self, number: int, lock: int) -> None:
        self.project = Path.cwd()
        self.folder = self.project / FOLDER / f"worker-{number}"
        self.logs = self.project / "search/logs"
        self._lock = lock
        self._process: subprocess.Popen | None = None
        self._stopped = False

    def prepare(self) -> None:
        """Make the clone, of the project's HEAD."""
        self.remove()
        git("clone", "--quiet", str(self.project), str(self.folder))
        cache = _run([sys.executable, "-m", "dvc", "cache", "dir"], self.project)
        config = f"[cache]\n    dir = {self.project / cache}\n"
        (self.folder / ".dvc/config.local").write_text(config, encoding="utf-8")
        self.logs.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Remove the clone, or what was left of an earlier one."""
        files.remove(self.folder)

    def build(self, name: str, changes: dict, target: str) -> Path:
        """Build and evaluate a target's package with changed parameters as an experiment of the project.

        :return: the clone's folder, which has the package and its figures

        :raises FailedError: with the sentence of the stage that failed
        """
        self._git("reset", "--quiet", "--hard")
        self._git("clean", "--quiet", "-d", "--force")
        baseline = self._git("rev-parse", "HEAD")
        ref = reference(name, baseline)
        self._git("update-ref", "-d", ref)
        params = self.folder / paths.PARAMS
        params.write_text(preset.edited(params.read_text(encoding="utf-8"), changes), encoding="utf-8")
        log = self.logs / f"{name}.log"
        with log.open("w", encoding="utf-8") as file:
            words = ["press.search.cached_dvc", "exp", "run", "--name", name, *wanted(target)]
            failed = self._start(words, stdout=file, stderr=subprocess.STDOUT)
        if failed:
            raise FailedError(shell.reason_in(log.read_text(encoding="utf-8", errors="replace")))
        git("fetch", "--quiet", str(self.folder), f"+{ref}:{ref}")
        return self.folder

    def measure(self, package: Path, threads: int) -> str:
        """Return what press.search.speed prints about a package.

        :raises FailedError: if it fails
        """
        log = self.logs / "speed.json"
        with log.open("w", encoding="utf-8") as file:
            failed = self._start(["press.search.speed", str(package), "--threads", str(threads)], stdout=file)
        if failed:
            raise FailedError("its speed could not be measured, for the reason above")
        return log.read_text(encoding="utf-8")

    def stop(self) -> None:
        """End what is running, and start nothing more."""
        self._stopped = True
        process = self._process
        if process is None:
            return
        for how in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(process.pid, how)
                process.wait(GRACE_SECONDS)
            # macOS permits no signal to a group of which all have ended.
            except (ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
                continue
            return

    def _start(self, words: list[str], stdout: IO[str], stderr: int | None = None) -> bool:
        """Run one of the clone's modules; return whether it failed."""
        if self._stopped:
            raise FailedError("the search was stopped")
        # In a session of its own, so that Ctrl-C reaches it through `stop` alone.
        self._process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=self.folder,
            env=variables(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[self._lock],
            stdout=stdout,
            stderr=stderr,
        )
        return self._process.wait() != 0

    def _git(self, *words: str) -> str:
        return _run(["git", *words], self.folder)


def variables() -> dict[str, str]:
    """Return the environment of what runs in a clone: DVC pushes nothing and tells nobody."""
    return {**environment.of_clone(), "DVC_EXP_AUTO_PUSH": "false", "DVC_NO_ANALYTICS": "1"}


def git(*words: str) -> str:
    """Run git in the project's folder and return what it prints.

    :raises UserError: if it fails
    """
    return _run(["git", *words], Path())


def _is_experiment(reference: str) -> bool:
    return re.fullmatch(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/[^/]+", reference) is not None


def _run(command: list[str], folder: Path) -> str:
    return shell.output(*command, folder=folder, environment=variables()).strip()
