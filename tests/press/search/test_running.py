"""Workers build what the study suggests; what keeps the search from going on is one sentence."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from press.core import cli
from press.core.errors import UserError
from press.release import outputs
from press.search import experiments, running
from press.search.study import Study


class FullWorker:
    """A worker whose trials end with a sentence."""

    reason = ""

    def __init__(self, number: int, lock: int) -> None:
        pass

    def prepare(self) -> None:
        """Make no clone."""

    def build(self, name: str, changes: dict, target: str) -> Path:
        raise experiments.FailedError(self.reason)

    def stop(self) -> None:
        """End nothing."""


@pytest.mark.parametrize("error", [ProcessLookupError, PermissionError])
def test_a_worker_whose_processes_have_ended_is_stopped(monkeypatch, error):
    """Linux finds no such group, macOS permits no signal to it."""
    asked = []

    def refuse(group: int, number: int) -> None:
        asked.append(group)
        raise error

    monkeypatch.setattr(os, "killpg", refuse)
    worker = experiments.Worker(1, 0)
    worker._process = SimpleNamespace(pid=7)
    worker.stop()
    assert set(asked) == {7}


@pytest.mark.parametrize(
    "reason",
    [
        "no space left on the disk; free some and run `dvc repro` again: nothing was lost",
        "unexpected error - [Errno 28] No space left on device",
    ],
)
def test_a_full_disk_stops_the_search_which_goes_on_by_its_own_command(load, monkeypatch, reason):
    monkeypatch.setattr(running, "Worker", FullWorker)
    monkeypatch.setattr(FullWorker, "reason", reason)
    monkeypatch.setattr(experiments, "known", dict)
    damaged = {outputs.Cached("fetch", "models/base", "0" * 32): ["models/base/model.safetensors"]}
    monkeypatch.setattr(outputs, "verify", {outputs.CACHE: damaged}.__getitem__)
    said = []
    spec = load()
    study = Study(Path("search/study.db"), spec, "state")
    with pytest.raises(UserError) as caught:
        running.search(spec, study, 0, said.append)
    assert str(caught.value) == cli.FULL_DISK
    # The cache was read first, and what is damaged there removed.
    (told,) = [line for line in said if "DVC's cache" in line]
    assert told.startswith("models/base/model.safetensors missing or damaged in DVC's cache, and gone from there")
    assert study.trials == []
    assert study.resume() == 1
