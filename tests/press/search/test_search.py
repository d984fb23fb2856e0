"""A search on the tiny preset: trials are experiments that share what they have in common."""

import csv
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import Project, assert_sentence, checkout, stale

from press.search import experiments

SEARCH = [sys.executable, "-m", "press.search"]
BLOCK = """search:
  target: cpu
  objective: minimize package.bytes
  constraints: [travel.onnx.adapter.loss <= 100]
  front: [minimize travel.onnx.adapter.perplexity, minimize package.bytes, maximize speed.decode]
  trials: 3
  seed: 1
  workers: 1
  space: {quantize.group_size: [32, 128], adapters.travel.lora.rank: [2, 4]}

"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny preset with one adapter and one step, committed, and with a search of four combinations."""
    project = checkout(tmp_path_factory.mktemp("search") / "olive-press")
    project.run(sys.executable, "-m", "press.preset", "tiny")
    params = project.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    text = re.sub(r"^  packing:\n(?:(?:    .*)?\n)+", "", text, flags=re.MULTILINE)
    text = text.replace("max_steps: 4", "max_steps: 1").replace("warmup_steps: 1", "warmup_steps: 0")
    params.write_text(experiments.BLOCK.sub(BLOCK, text), encoding="utf-8")
    project.commit()
    return project


@pytest.mark.pipeline
@pytest.mark.xdist_group("search")
def test_a_search_stopped_and_resumed_finds_the_smallest_package_that_can_be_built(small):
    interrupted = small.start(*SEARCH)
    wait_for(small.folder / "search/logs/search-0001.log", "is cached|Running stage 'finetune")
    interrupted.send_signal(signal.SIGINT)
    out, err = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130, out + err
    assert "interrupted: run the same command again" in err

    result = small.run(*SEARCH)
    assert "1 trials were stopped before they ended, and begin again" in result.stdout
    # What was built before Ctrl-C came out of the cache.
    assert "Stage 'quantize' is cached" in log(small, "search-0001")
    assert small.run("git", "status", "--porcelain").stdout == ""
    rows = list(csv.DictReader((small.folder / "search/trials.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["trial"] for row in rows] == ["search-0001", "search-0002", "search-0003"]
    built = [row for row in rows if not row["failed"]]
    assert built
    assert all(float(row["speed.decode"]) > 0 for row in built)
    for row in rows:
        wide = row["quantize.group_size"] == "128"
        assert ("quantize.group_size is 128" in row["failed"]) is wide
    chosen = min(built, key=lambda row: float(row["package.bytes"]))
    assert f"Chosen: **{chosen['trial']}**" in result.stdout

    again = small.run(*SEARCH)
    assert "begins" not in again.stdout

    # Another search of the same state knows its trials; its own settings need not be committed.
    small.edit("params.yaml", "objective: minimize package.bytes", "objective: [minimize travel.onnx.adapter.loss]")
    small.run(*SEARCH, "apply", chosen["trial"])
    text = (small.folder / "params.yaml").read_text(encoding="utf-8")
    assert "objective: [minimize travel.onnx.adapter.loss]" in text
    assert f"rank: {chosen['adapters.travel.lora.rank']} " in text
    assert not stale(small)
    size = sum(float(row["package.bytes"]) for row in rows if row["trial"] == chosen["trial"])
    assert f'"bytes": {size:.0f}' in (small.folder / "packages/cpu/metrics.json").read_text(encoding="utf-8")
    assert_sentence(small.run(*SEARCH, check=False), "not committed", "git restore")
    assert_sentence(
        small.run(*SEARCH, "apply", "search-0009", check=False), "no experiment 'search-0009', only search-"
    )


def wait_for(path: Path, pattern: str) -> None:
    """Wait until a file has a pattern."""
    for _ in range(1200):
        if path.exists() and re.search(pattern, path.read_text(encoding="utf-8", errors="replace")):
            return
        time.sleep(0.1)
    pytest.fail(f"{path} never had {pattern}")


def log(project: Project, name: str) -> str:
    return (project.folder / f"search/logs/{name}.log").read_text(encoding="utf-8")


def test_only_the_search_s_own_settings_may_be_uncommitted(default_project, tmp_path, monkeypatch):
    project = default_project.copy_to(tmp_path / "olive-press")
    monkeypatch.chdir(project.folder)
    before = experiments.state()
    project.edit("params.yaml", "trials: 20", "trials: 21")
    experiments.check_committed()
    project.commit()
    assert experiments.state() == before
    project.edit("params.yaml", "seed: 42", "seed: 43")
    assert_sentence(project.run(*SEARCH, check=False), "params.yaml: not committed")
    project.commit()
    assert experiments.state() != before


def test_an_experiment_of_other_files_is_not_applied(default_project, tmp_path, monkeypatch):
    project = default_project.copy_to(tmp_path / "olive-press")
    monkeypatch.chdir(project.folder)
    head = project.run("git", "rev-parse", "HEAD").stdout.strip()
    project.run("git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/search-0001", head)
    (project.folder / "README.md").write_text("another", encoding="utf-8")
    project.commit()
    words = [*SEARCH, "apply", "search-0001"]
    assert_sentence(project.run(*words, check=False), head[:12], "files have changed since")


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("50%|##\rerror: a width\nERROR: failed to reproduce 'quantize': exited with 1\n", "a width"),
        (
            "Traceback\nValueError: no\nERROR: failed to reproduce 'x': exited with 1\n",
            "failed to reproduce 'x': exited with 1",
        ),
        ("", "no reason given"),
    ],
)
def test_a_failed_trial_s_reason_is_the_stage_s_sentence(log, reason):
    assert experiments.reason(log) == reason
