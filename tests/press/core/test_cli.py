"""Every stage ends in the same way: a sentence for a user's mistake, a traceback for a bug."""

import errno
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from projects import ROOT

from press.core import cli

STAGE = '''"""A tiny stage.

in:  nothing
"""

import os
from pathlib import Path

from press.core import cli
from press.core.errors import UserError


def main(adapter):
{body}


if __name__ == "__main__":
    cli.run(main)
'''
FULL_DISK = "error: no space left on the disk; free some and run `dvc repro` again: nothing was lost"
INTERRUPTED = "interrupted: nothing was lost; `dvc repro` goes on from here\n"


def write(folder: Path, body: str) -> None:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (folder / "tiny.py").write_text(STAGE.format(body=lines), encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int | str]:
    """Run a stage of the given body in this process; return what it gives `sys.exit`, an exit code or a sentence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(body: str, *words: str, online: bool = False) -> int | str:
        write(tmp_path, body)
        monkeypatch.delitem(sys.modules, "tiny", raising=False)
        monkeypatch.setattr(sys, "argv", ["tiny", *words])
        with mock.patch.dict(os.environ):
            try:
                cli.run(importlib.import_module("tiny").main, online=online)
            except SystemExit as stop:
                return stop.code
        return 0

    return run


@pytest.fixture
def start(tmp_path: Path) -> Callable[[str], subprocess.Popen]:
    """Start a stage of the given body in a process of its own."""

    def start(body: str) -> subprocess.Popen:
        write(tmp_path, body)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "tiny", "travel"]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)

    return start


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def test_success_passes_the_words_on(run, capsys):
    assert run("print(adapter)", "travel") == 0
    assert capsys.readouterr() == ("travel\n", "")


def test_a_user_s_mistake_is_a_sentence(run):
    assert run("raise UserError('the cat is no dog')", "travel") == "error: the cat is no dog"


@pytest.mark.integration
def test_a_process_ends_with_0_or_with_1_and_the_sentence_alone(start):
    assert ended(start("print(adapter)")) == (0, "travel\n", "")
    assert ended(start("raise UserError('the cat is no dog')")) == (1, "", "error: the cat is no dog\n")


@pytest.mark.integration
def test_a_bug_keeps_its_traceback(start):
    code, _, stderr = ended(start("1 / 0"))
    assert code == 1
    assert stderr.startswith("Traceback")
    assert stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    "body",
    [
        "open('/dev/full', 'w').write('x' * 100_000)",
        "Path('/dev/full').write_text('x')",
        "try:\n    open('/dev/full', 'wb', 0).write(b'x')\nexcept OSError as error:\n    raise ValueError from error",
        "try:\n    open('/dev/full', 'wb', 0).write(b'x')\nexcept OSError:\n    raise ValueError",
        "raise RuntimeError('I/O error: No space left on device (os error 28)')",
        "import errno\nraise OSError(errno.EDQUOT, 'Disk quota exceeded')",
    ],
    ids=["buffered", "pathlib", "wrapped", "while handling it", "of another language", "quota"],
)
def test_a_full_disk_is_a_sentence(run, body):
    assert run(body, "travel") == FULL_DISK


@pytest.mark.integration
def test_a_library_in_rust_that_fills_a_small_disk_gives_the_sentence(run, small_disk):
    body = (
        "import numpy\nfrom safetensors.numpy import save_file\n"
        f"save_file({{'a': numpy.zeros(10**6)}}, '{small_disk}/a.safetensors')"
    )
    assert run(body, "travel") == FULL_DISK


@pytest.mark.integration
@pytest.mark.parametrize("numbers", [1, 10**6])
def test_torch_that_fills_a_small_disk_gives_the_sentence(run, small_disk, numbers):
    """As a checkpoint does: the optimizer's state is large, that of the schedule is not."""
    (small_disk / "fill").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096 - (numbers > 1) * 8192))
    assert run(f"import torch\ntorch.save(torch.zeros({numbers}), '{small_disk}/a.pt')", "travel") == FULL_DISK


@pytest.mark.integration
def test_torch_that_cannot_write_otherwise_is_no_full_disk(run, tmp_path):
    with pytest.raises(RuntimeError, match="Is a directory"):
        run(f"import torch\ntorch.save(1, '{tmp_path}')", "travel")


def test_another_system_error_is_no_full_disk(run):
    with pytest.raises(FileNotFoundError) as caught:
        run("open('/no/such/file')", "travel")
    assert caught.value.errno == errno.ENOENT


def test_an_interrupt_exits_with_130_and_says_that_nothing_is_lost(run, capsys):
    assert run("raise KeyboardInterrupt", "travel") == 130
    assert capsys.readouterr().err == INTERRUPTED


@pytest.mark.integration
def test_ctrl_c_is_such_an_interrupt(start):
    process = start("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "", INTERRUPTED)


def test_help_shows_the_docstring_and_the_words(run, capsys):
    assert run("pass", "--help") == 0
    stdout, stderr = capsys.readouterr()
    assert stderr == ""
    assert stdout.startswith("usage: python -m tiny [-h] adapter\n\nA tiny stage.\n\nin:  nothing\n")
    assert "name of the adapter in params.yaml" in stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [((), "the following arguments are required: adapter"), (("a", "b"), "unrecognized arguments: b")],
)
def test_a_missing_or_surplus_word_exits_with_2(run, capsys, words, reason):
    assert run("pass", *words) == 2
    assert capsys.readouterr().err.endswith(f"python -m tiny: error: {reason}\n")


@pytest.mark.parametrize(("online", "offline"), [(False, "1"), (True, "None")])
def test_only_a_stage_that_may_reaches_a_hub(run, capsys, monkeypatch, online, offline):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    body = "print(os.environ.get('HF_HUB_OFFLINE'), os.environ['OLIVE_DISABLE_TELEMETRY'])"
    assert run(body, "travel", online=online) == 0
    assert capsys.readouterr().out == f"{offline} 1\n"


@pytest.mark.integration
def test_a_process_looks_for_reference_cycles_rarely_and_not_at_its_end():
    """Each look takes the longer the more was imported; of two functions for the end the first registered runs last."""
    code = "import atexit, gc\nfrom press.core import cli\natexit.register(lambda: print(gc.get_freeze_count()))\n"
    code += "cli.in_sentences(lambda: print(gc.get_threshold()[0]))\n"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    threshold, frozen = map(int, result.stdout.split())
    assert threshold == cli.OBJECTS
    assert frozen > cli.OBJECTS
