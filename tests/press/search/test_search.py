"""A search on stand-ins for the stages: trials are experiments that share what they have in common."""

import csv
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from projects import Project, assert_sentence, stale

from press.core import files
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


@pytest.fixture
def searched(hollow_copy: Project) -> Project:
    """A hollow project, committed, whose packages, of which there are none, are all as fast: test_speed.py has one."""
    speed = hollow_copy.folder / "press/search/speed.py"
    speed.write_text('print(\'{"decode": 5.0, "adapter": 4.0}\')\n', encoding="utf-8")
    hollow_copy.commit()
    return hollow_copy


@pytest.mark.integration
def test_a_search_stopped_and_resumed_finds_the_smallest_package_that_can_be_built(searched, monkeypatch):
    copy = searched
    params = copy.folder / "params.yaml"
    params.write_text(experiments.BLOCK.sub(BLOCK, params.read_text(encoding="utf-8")), encoding="utf-8")
    before = copy.run("git", "status", "--porcelain").stdout
    monkeypatch.setitem(copy.environment, "STAND_IN_FAILS", "quantize quantize.group_size=128")
    monkeypatch.setitem(copy.environment, "STAND_IN_WAITS", "finetune")
    interrupted = copy.start(*SEARCH)
    wait_for(copy.folder / "search/logs/search-0002.log", "Running stage 'finetune")
    interrupted.send_signal(signal.SIGINT)
    out, err = interrupted.communicate(timeout=120)
    assert interrupted.returncode == 130, out + err
    assert "interrupted: run the same command again" in err

    monkeypatch.delitem(copy.environment, "STAND_IN_WAITS")
    result = copy.run(*SEARCH)
    assert "1 trials were stopped before they ended, and begin again" in result.stdout
    assert "search-0001 (" not in result.stdout
    # What params.yaml says was there, what was built before Ctrl-C came out of the cache.
    assert set(re.findall(r"Running stage '(.+)':", log(copy, "search-0001"))) <= {"check"}
    assert "Stage 'check' is cached" in log(copy, "search-0002")
    assert re.findall(r"Running stage '(.+)':", log(copy, "search-0002")) == [
        "finetune@travel",
        "convert@cpu-travel",
        "evaluate@cpu",
        "package@cpu",
    ]
    assert copy.run("git", "status", "--porcelain").stdout == before
    rows = list(csv.DictReader((copy.folder / "search/trials.csv").read_text(encoding="utf-8").splitlines()))
    ranks = [(row["trial"], row["adapters.travel.lora.rank"], row["quantize.group_size"]) for row in rows]
    assert ranks[:2] == [("search-0001", "4", "32"), ("search-0002", "2", "32")]
    assert rows[2]["failed"].startswith("quantize.group_size=128 fails, as it was asked to")
    assert [float(row["speed.decode"]) for row in rows[:2]] == [5, 5]
    assert "Chosen: **search-0002**" in result.stdout

    assert "begins" not in copy.run(*SEARCH).stdout
    copy.run(*SEARCH, "apply", "search-0002")
    text = params.read_text(encoding="utf-8")
    assert "seed: 1\n" in text
    assert "      rank: 2\n" in text
    assert not stale(copy)
    metrics = files.read_json(copy.folder / "reports/evaluate/cpu/metrics.json")
    assert metrics["package"]["bytes"] == float(rows[1]["package.bytes"])
    assert_sentence(copy.run(*SEARCH, check=False), "not committed", "git restore")
    assert_sentence(copy.run(*SEARCH, "apply", "search-0009", check=False), "no experiment 'search-0009', only search-")


def wait_for(path: Path, pattern: str) -> None:
    """Wait until a file has a pattern."""
    for _ in range(6000):
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
