"""A machine's folders of jobs are those of jobs that run, and so are its processes."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile

import pytest
from projects import ROOT

from press.cluster import worker

from .conftest import SECONDS, wait_until_gone

# A job whose stage outlives it, if nobody ends that.
JOB = """
import subprocess, sys
from press.cluster import job
job.begin()
subprocess.run([sys.executable, "-c", "import os, time; print(os.getpid(), os.getppid(), flush=True); time.sleep(600)"])
"""
WORKER = """
import json, sys
from press.cluster import worker
for said in worker.run(sys.stdin.buffer.read(), '{"module": "main"}', 600):
    print(said if isinstance(said, str) else json.dumps(said), end="", flush=True)
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


@pytest.mark.integration
@pytest.mark.parametrize("survives", [True, False])
def test_a_stage_ends_with_its_job_whoever_kills_that(tmp_path, survives):
    """The kernel, where memory is short; and Ray of a coordinator that is gone, before it ends the worker."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(ROOT / "press", "press")
        (tmp_path / "main.py").write_text(JOB, encoding="utf-8")
        archive.add(tmp_path / "main.py", "main.py")
    environment = {**os.environ, worker.HOME: str(tmp_path / "home")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", WORKER], cwd=ROOT, env=environment, **pipes)
    process.stdin.write(packed.getvalue())
    process.stdin.close()
    process.stdin = None
    stage, job = process.stdout.readline().decode().split()
    if survives:
        os.kill(int(job), signal.SIGKILL)
        said, _ = process.communicate(timeout=SECONDS)
        assert json.loads(said) == {"code": -signal.SIGKILL, "late": False}
        assert not list((tmp_path / "home").glob("job-*"))
    else:
        # As if it were one moment.
        process.send_signal(signal.SIGSTOP)
        os.kill(int(job), signal.SIGKILL)
        process.kill()
    process.wait()
    wait_until_gone(stage)
