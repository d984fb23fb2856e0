"""What is said of a process that failed; test_finetuning.py and tests/test_nodes.py train in several."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from press.core import arithmetic, cli
from press.core.errors import UserError
from press.model import launcher, olive_run

WORK = launcher.work


def explained(building: Path, exitcode: int) -> Exception:
    failure = ProcessFailure(local_rank=1, pid=os.getpid(), exitcode=exitcode, error_file="none")
    return launcher._explained(ChildFailedError("work", {1: failure}), building, "the training")


def test_a_process_that_was_killed_is_named_with_what_helps(tmp_path):
    error = explained(tmp_path, -9)
    assert isinstance(error, UserError)
    assert str(error).startswith("process 1 of the training was killed (SIGKILL), as the system does where memory is")


def test_a_full_disk_is_one_for_the_stage_too(tmp_path):
    assert cli.is_full_disk(explained(tmp_path, errno.ENOSPC))


@pytest.mark.parametrize("exitcode", [1, -6])
def test_the_sentence_of_one_process_explains_another_that_lost_it(tmp_path, exitcode):
    (tmp_path / "failure-0.txt").write_text("the GPU's memory is full", encoding="utf-8")
    error = explained(tmp_path, exitcode)
    assert isinstance(error, UserError)
    assert str(error) == "the GPU's memory is full"


def test_a_bug_is_none_of_the_user_s_mistakes(tmp_path):
    assert isinstance(explained(tmp_path, 1), RuntimeError)


def refuse(*given: object) -> None:
    """Do as a process of the launcher whose pass refuses its input, or as another that waits for it in a sum."""

    def run(*_: object) -> None:
        if os.environ["RANK"] == "1":
            raise UserError("the training loss is not a finite number any more")
        time.sleep(600)

    olive_run.run = run
    WORK(*given)


@pytest.mark.integration
def test_a_sentence_of_one_of_several_processes_is_that_of_all_and_ends_them(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(launcher, "work", refuse)
    start, others = time.monotonic(), {*multiprocessing.active_children()}
    with pytest.raises(UserError, match=r"^the training loss is not a finite number any more$"):
        launcher.run({}, {}, tmp_path, 2, "", arithmetic.NATIVE, "the training")
    assert time.monotonic() - start < 300
    assert "Traceback" not in capfd.readouterr().err
    assert {*multiprocessing.active_children()} <= others


# A process under the launcher, and its parent, which says who that is.
PROCESS = """
import ctypes, importlib, os, sys, time
from press.model import launcher
{platform}
launcher.LOOK_SECONDS = 0.05
launcher._die_with(os.getppid())
print("ready", flush=True)
time.sleep(600)
"""
# Which has no prctl.
MACOS = """
sys.platform, ctypes.CDLL = "darwin", None
importlib.reload(launcher)
assert launcher.LOOPBACK == "lo0"
"""
PARENT = """
import subprocess, sys
process = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
assert process.stdout.readline() == b"ready\\n"
print(process.pid, flush=True)
process.wait()
"""


@pytest.mark.integration
@pytest.mark.parametrize("platform", ["", MACOS], ids=["here", "as on macOS"])
def test_a_process_ends_with_its_parent(platform):
    command = [sys.executable, "-c", PARENT, PROCESS.format(platform=platform)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        process = psutil.Process(int(parent.stdout.readline()))
        assert process.is_running()
        parent.kill()
    end = time.monotonic() + 20
    while runs(process) and time.monotonic() < end:
        time.sleep(0.05)
    assert not runs(process)


@pytest.mark.parametrize(("parent", "ends"), [(os.getppid(), False), (-1, True)], ids=["there", "gone"])
def test_a_process_whose_parent_was_gone_before_ends_too(monkeypatch, parent, ends):
    ended = []
    monkeypatch.setattr(launcher.sys, "platform", "linux")
    monkeypatch.setattr(launcher.ctypes, "CDLL", lambda name: SimpleNamespace(prctl=lambda *_: 0))
    monkeypatch.setattr(launcher.os, "kill", lambda *asked: ended.append(asked))
    launcher._die_with(parent)
    assert ended == [(os.getpid(), signal.SIGKILL)] * ends


def runs(process: psutil.Process) -> bool:
    """Whether a process is there; one that ended stays a zombie until its new parent asks for it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
