"""A machine's folders of jobs are those of jobs that run, and so are its processes."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from projects import ROOT

from press.cluster import worker
from press.model import nodes

from .conftest import SECONDS, wait_until_gone

# A job, and one whose stage outlives it, if nobody ends that.
JOB = """
import subprocess, sys
from press.cluster import job
job.begin()
open("job.json", "w").write("{}")
"""
STAYS = f"""{JOB}
subprocess.run([sys.executable, "-c", "import os, time; print(os.getpid(), os.getppid(), flush=True); time.sleep(600)"])
"""
# What outlives the process that started it is this one's.
WORKER = """
import ctypes, json, os, sys
from press.cluster import worker
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
for said in worker.run(sys.stdin.buffer.read(), '{"module": "main"}', 600):
    print(said.strip() if isinstance(said, str) else json.dumps(said), flush=True)
print(open(f"/proc/self/task/{os.getpid()}/children").read())
"""


@pytest.mark.unit
def test_what_a_killed_job_left_is_removed_and_what_runs_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(worker.HOME, str(tmp_path / "home"))
    first, held = worker._folder()
    (first / "file").touch()
    second, other = worker._folder()
    assert (first / "file").exists()
    # As its process's end does.
    os.close(held)
    third, last = worker._folder()
    assert not first.exists()
    assert second.is_dir()
    assert third.is_dir()
    for descriptor in (other, last):
        os.close(descriptor)


def start(tmp_path: Path, code: str) -> subprocess.Popen:
    """Start a process that runs a job."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(ROOT / "press", "press")
        (tmp_path / "main.py").write_text(code, encoding="utf-8")
        archive.add(tmp_path / "main.py", "main.py")
    environment = {**os.environ, worker.HOME: str(tmp_path / "home")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", WORKER], cwd=ROOT, env=environment, **pipes)
    process.stdin.write(packed.getvalue())
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.integration
@pytest.mark.parametrize("survives", [True, False])
def test_a_stage_ends_with_its_job_whoever_kills_that(tmp_path, survives):
    """The kernel, where memory is short; and Ray of a coordinator that is gone, before it ends the worker."""
    process = start(tmp_path, STAYS)
    stage, job = process.stdout.readline().decode().split()
    if survives:
        os.kill(int(job), signal.SIGKILL)
        said = process.communicate(timeout=SECONDS)[0].splitlines()
        assert json.loads(said[0]) == {"code": -signal.SIGKILL, "late": False}
        assert not list((tmp_path / "home").glob("job-*"))
    else:
        # As if it were one moment.
        process.send_signal(signal.SIGSTOP)
        os.kill(int(job), signal.SIGKILL)
        process.kill()
        process.wait()
    wait_until_gone(stage)


@pytest.mark.integration
def test_a_job_that_ends_leaves_no_process_and_no_zombie(tmp_path):
    said, _ = start(tmp_path, JOB).communicate(timeout=SECONDS)
    result, children = said.decode().splitlines()
    assert json.loads(result) == {"code": 0, "late": False}
    assert children == ""


@pytest.mark.unit
def test_nodes_are_told_by_the_names_that_a_training_reads():
    assert (worker.ADDRESS, worker.PORT, worker.RANK) == (nodes.ADDRESS, nodes.PORT, nodes.RANK)
