"""Copies of the project to run commands in, and what is asked of them."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import one_process
import pytest

from press.core import files, paths
from press.params import recorded, resolving

ROOT = Path(__file__).parents[1]


def once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of that name, which `build` fills once for all workers; they must not change it.

    As pytest-xdist documents it, "Making session-scoped fixtures execute only once".
    """
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    made, done = folder / name, folder / f"{name}.done"
    with filelock.FileLock(folder / f"{name}.lock"):
        if not done.exists():
            files.remove(made)
            made.mkdir()
            build(made)
            done.touch()
    return made


class Project:
    """A copy of the project in a git repository of its own, with commands to run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The tests' own interpreter first, and the copy's modules, not those installed from the original.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": "", "COLUMNS": "200"}
        # A program that DVC would start after each of its commands.
        self.environment["DVC_NO_ANALYTICS"] = "1"

    def run(self, *command: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        """Run a command to its end, most of DVC's in this process; by default, it has to succeed."""
        kept = {"capture_output": True, "text": True, "check": False}
        result = one_process.run(
            command, one_process.WITH_STAGES, cwd=self.folder, env=self.environment, **kept, **options
        )
        assert not check or result.returncode == 0, (
            f"{command} failed with {result.returncode}:\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
        )
        return result

    def start(self, *command: str, **options) -> subprocess.Popen:
        """Start a command in the background."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True, **options
        )

    def in_process(self, words: str) -> subprocess.CompletedProcess:
        """Run a stage as `module` does."""
        name, *rest = words.split()
        return self.module(f"stages.{name}", *rest)

    def module(self, name: str, *words: str) -> subprocess.CompletedProcess:
        """Run `python -m NAME` in this process, whose imports are done, and return how one of its own would have ended.

        What the processes that it starts print is not in there.
        """
        code = None
        with one_process.as_a_process(self.folder, self.environment) as said, pytest.MonkeyPatch.context() as patch:
            one_process.patch(patch)
            patch.setattr(sys, "argv", [name, *words])
            try:
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            except SystemExit as stop:
                code = stop.code
        out, err = (each.getvalue() for each in said.values())
        return one_process.ended_with(code, name, out, err)

    def resolve(self) -> None:
        """Write the parameters down as `check` does, without its other work."""
        recorded.write(resolving.Resolved(self.folder / paths.PARAMS).values, self.folder)

    def commit(self) -> None:
        """Commit everything."""
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
        self.run("git", "add", "--all")
        self.run("git", *identity, "commit", "--quiet", "--allow-empty", "--message", "test")

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace the first occurrence of a text in a file, which has to be there."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    def copy_to(self, folder: Path) -> "Project":
        """Return a copy, outputs and DVC cache included."""
        copy_tree(self.folder, folder)
        return Project(folder)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder with all that is in it, into one that may be there: shutil takes far longer."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


def checkout(folder: Path) -> None:
    """Copy the project's own files, as they are in the working tree, into a new git repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    result = Project(folder)
    (folder / "dvc.lock").unlink(missing_ok=True)
    result.run("git", "init", "--quiet")
    result.commit()
    # One file for all that is committed, since all of it is copied again and again.
    result.run("git", "repack", "-a", "-d", "--quiet")


def without_arithmetic(project: Project) -> None:
    """Let `check` ask no library for a known product: importing PyTorch is half of its time."""
    project.edit("stages/check.py", "    arithmetic.begin(params.arithmetic, params.threads)\n", "")


def stages_run(project: Project, *words: str) -> set[str]:
    """Run `dvc repro` and return the stages that it ran."""
    return set(re.findall(r"^Running stage '(.+)':$", project.run("dvc", "repro", *words).stdout, re.MULTILINE))


def stale(project: Project) -> set[str]:
    """Return the stages whose own dependencies changed."""
    return set(json.loads(project.run("dvc", "status", "--json").stdout))


def stage(words: str) -> list[str]:
    """Return the command line of a stage."""
    name, *rest = words.split()
    return [sys.executable, "-m", f"stages.{name}", *rest]


def assert_sentence(result: subprocess.CompletedProcess, *parts: str) -> None:
    """Check for exit code 1 and one sentence on stderr that has all the parts."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    # A progress bar may stand before it in the same line.
    errors = [line for line in result.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1, result.stderr
    for part in parts:
        assert part in errors[0]
