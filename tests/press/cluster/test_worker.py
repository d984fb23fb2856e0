"""A machine's folders of jobs are those of jobs that run."""

import os

import pytest

from press.cluster import worker

pytestmark = pytest.mark.unit


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
