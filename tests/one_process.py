"""What would run in a process of its own, run in the tests' process, whose imports are done.

To load, DVC takes half a second of processor time, and Azure's SDK three; what the tests ask of them takes hundredths.
What only a process can show is asked of real ones: a stage of a pipeline, also where `dvc repro` is asked here, but
for one that the tests put in its place, a kill, a time limit that a test sets.
"""

import contextlib
import io
import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

import pytest

from press.release import bounded

# DVC's commands that run no stage.
QUICK = frozenset(
    ("add", "artifacts", "cache", "checkout", "commit", "config", "fetch", "init", "pull", "push", "remote", "status")
)
# And that which runs each in a process of its own.
WITH_STAGES = QUICK | {"repro"}
# A shorter time limit is there to be reached.
SECONDS = 60
# Its way of printing is that of its own tests, which does without colorama, and it asks for no newer version.
DVC = {"DVC_TEST": "1"}

_run, _call = subprocess.run, bounded.Process.call


def run(command: Sequence[str], quick: Collection[str] = QUICK, **options) -> CompletedProcess:
    """Do as `subprocess.run` does, in this process if it is one of DVC's quick commands."""
    words = _dvc_words(command)
    if not words or words[0] not in quick or (options.get("timeout") or SECONDS) < SECONDS:
        return _run(command, **options)
    with as_a_process(options.get("cwd"), options.get("env")) as said:
        os.environ.update(DVC)
        code = _dvc(words)
    kept = [said[name] if _is_kept(name, options) else None for name in ("stdout", "stderr")]
    return CompletedProcess(command, code, *(each and each.getvalue() for each in kept))


def call(process: bounded.Process, function: Callable, *arguments: object, seconds: float) -> object:
    """Do as `bounded.Process.call` does, in this process."""
    if seconds < SECONDS:
        return _call(process, function, *arguments, seconds=seconds)
    reason, answer = bounded._outcome(function, arguments, process._whom)
    if reason:
        raise bounded.UserError(reason)
    return answer


def patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the code under test start no process where it need not."""
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(bounded.Process, "call", call)


@contextlib.contextmanager
def as_a_process(
    folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[dict[str, io.StringIO]]:
    """Give this process another folder and other variables for a while, and yield what it prints."""
    said = {"stdout": io.StringIO(), "stderr": io.StringIO()}
    with (
        contextlib.chdir(folder or Path.cwd()),
        mock.patch.dict(os.environ, environment or {}, clear=environment is not None),
        contextlib.redirect_stdout(said["stdout"]),
        contextlib.redirect_stderr(said["stderr"]),
    ):
        yield said


def _dvc_words(command: Sequence[str]) -> list[str]:
    """Return the words after `dvc` or `python -m dvc`; none of any other command."""
    if command[0] == "dvc":
        return list(command[1:])
    return list(command[3:]) if list(command[:3]) == [sys.executable, "-m", "dvc"] else []


def _dvc(words: list[str]) -> int:
    from dvc import cli
    from dvc.stage import run
    from dvc.utils.serialize import _yaml

    logger = logging.getLogger("dvc")
    # Which dvclive changes where a stage runs in this process.
    logger.setLevel(logging.INFO)
    handlers = [each for each in logger.handlers if isinstance(each, logging.StreamHandler)]
    before = [handler.stream for handler in handlers]
    for handler in handlers:
        handler.setStream(sys.stderr if handler.level >= logging.WARNING else sys.stdout)
    try:
        with (
            # In which it looks for options for its developers.
            mock.patch.object(sys, "argv", ["dvc", *words]),
            mock.patch.object(run, "_run", _stage),
            mock.patch.object(_yaml, "parse_yaml_for_update", _parsed),
        ):
            return cli.main(words)
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            handler.setStream(stream)


def _parsed(text: str, path: str) -> dict:
    """Parse a file that DVC then writes anew, after each stage dvc.lock: which has no comments to keep, but is long."""
    from dvc.utils.serialize import _yaml

    return _yaml.parse_yaml(text, path, "safe" if Path(path).name == "dvc.lock" else "rt")


def _stage(executable: str, command: str, **options) -> None:
    """Run a stage in its own process, as DVC does, or here if it is the tests' own, and print what it prints."""
    from dvc.stage import exceptions

    own = _own_script(command, Path(options["cwd"]))
    if own:
        ended = _script(*own, options["cwd"], options["env"])
    else:
        ended = _run([executable, "-c", command], capture_output=True, text=True, check=False, **options)
    sys.stdout.write(ended.stdout)
    sys.stderr.write(ended.stderr)
    if ended.returncode:
        raise exceptions.StageCmdFailedError(command, ended.returncode)


def _own_script(command: str, folder: Path) -> tuple[Path, list[str]] | None:
    """Return script and words of a stage that the tests put in the place of one: `python FILE`, or a stand-in."""
    _, *words = command.split()
    if words[:1] != ["-m"]:
        return (folder / words[0], words[1:]) if words and words[0].endswith(".py") else None
    script = (folder / words[1].replace(".", "/")).with_suffix(".py")
    stands_in = script.is_file() and script.read_text(encoding="utf-8").startswith("import stand_in\n")
    return (script, words[2:]) if stands_in else None


def _script(script: Path, words: Sequence[str], folder: Path, variables: Mapping[str, str]) -> CompletedProcess:
    """Run a script in this process."""
    code = None
    with as_a_process(folder, variables) as said, mock.patch.object(sys, "argv", [str(script), *words]):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
    out, err = (each.getvalue() for each in said.values())
    return ended_with(code, str(script), out, err)


def ended_with(code: str | int | None, command: str, out: str, err: str) -> CompletedProcess:
    """Return how a process ends that exits with that: a text is said, and is a failure."""
    last = f"{code}\n" if isinstance(code, str) else ""
    return CompletedProcess(command, 1 if last else int(code or 0), out, err + last)


def _is_kept(name: str, options: Mapping[str, object]) -> bool:
    return bool(options.get("capture_output")) or options.get(name) == subprocess.PIPE
