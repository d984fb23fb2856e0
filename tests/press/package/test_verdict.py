"""What was measured is written down with the package's size, the gates' verdict and the card that has the same."""

import json
from pathlib import Path

import pytest

from press.core import files
from press.package import contents, verdict

GATES = ["package.bytes <= 1000", "travel.onnx.adapter.loss <= 1"]
CASE = {"text": "travel", "input": "a long trip", "travel.onnx.adapter.loss": 7.0}


@pytest.fixture
def written(metrics, params, base, tmp_path, monkeypatch) -> tuple[Path, list]:
    """The folder of an evaluation of a package of 123 bytes, and what became of two gates."""
    monkeypatch.setattr(contents, "size", lambda target, params: 123)
    monkeypatch.setattr(verdict.paths, "BASE", base)
    folder = tmp_path / "evaluated"
    folder.mkdir()
    (folder / "cases.jsonl").write_text(json.dumps(CASE) + "\n", encoding="utf-8")
    del metrics["package"]
    return folder, verdict.write("cpu", params.model_copy(update={"gates": GATES}), metrics, folder)


def test_the_package_s_size_joins_the_metrics(written, metrics):
    folder, _ = written
    assert files.read_json(folder / "metrics.json") == metrics | {"package": {"bytes": 123}}


def test_each_gate_is_judged_with_its_cases(written):
    folder, results = written
    assert [result.passed for result in results] == [True, False]
    passed, failed = files.read_json(folder / "gates.json")["gates"]
    assert passed == {"gate": GATES[0], "passed": True, "reason": "123 against 1000"}
    assert not failed["passed"]
    assert "a long trip" in failed["reason"]


def test_the_gates_say_by_which_settings_answers_were_given(written):
    folder, _ = written
    assert files.read_json(folder / "gates.json")["answers"] == {
        "packing": "greedy, repetition_penalty 1.1, at most 160 tokens",
        "travel": "greedy, repetition_penalty 1.05, at most 160 tokens",
    }


def test_the_card_says_the_same(written):
    folder, results = written
    card = (folder / "README.md").read_text(encoding="utf-8")
    for result in results:
        assert result.gate in card
        assert result.reason.replace("`", "'") in card
