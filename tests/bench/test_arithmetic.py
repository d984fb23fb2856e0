"""The bench of arithmetic, on stages that take no time."""

import os
from pathlib import Path

import pytest

from bench import arithmetic
from press.core import files, paths
from press.params import settings

pytestmark = pytest.mark.integration


def test_each_stage_runs_on_what_its_own_mode_made(hollow_copy, monkeypatch, capsys):
    monkeypatch.chdir(hollow_copy.folder)
    monkeypatch.setattr(os, "environ", hollow_copy.environment)

    def losses(folder: Path, params: settings.Settings) -> dict[str, float]:
        # By which a stage would refuse what the other mode's stage has made.
        assert not (folder / paths.LOCK).exists()
        return dict.fromkeys(params.adapters, 1.5)

    monkeypatch.setattr(arithmetic, "losses", losses)
    arithmetic.main(["quantize", "capture"])
    seconds = files.read_json(arithmetic.OUTPUT)["seconds"]
    assert list(seconds) == ["quantize", "capture cpu"]
    assert all(taken[mode] > 0 for taken in seconds.values() for mode in arithmetic.MODES)
    said = capsys.readouterr().out
    assert "| capture cpu | " in said
    assert "held-out loss of travel: native 1.500000, portable 1.500000 (+0.000000)" in said
