"""The real pipeline on the default model, from nothing to an answer: what the README promises."""

import subprocess
import sys

import pytest
from projects import ROOT, Project

from press.core import files

pytestmark = [pytest.mark.default_model, pytest.mark.timeout(3600)]
# Of the share of valid packing lists: what the project promises.
VALID = 0.8


@pytest.fixture(scope="module")
def made(default_project: Project) -> Project:
    default_project.run("dvc", "repro")
    return default_project


@pytest.mark.parametrize("name", ["travel", "packing"])
def test_an_adapter_lowers_the_onnx_models_heldout_loss_clearly(made, name):
    scores = files.read_json(made.folder / "reports/evaluate/cpu/metrics.json")[name]
    assert scores["onnx"]["adapter"]["loss"] < 0.85 * scores["onnx"]["bare"]["loss"]


@pytest.mark.parametrize("name", ["travel", "packing"])
def test_onnx_stays_near_pytorch(made, name):
    """The int4 head and int8 activations cost some; a wrong graph would cost nats."""
    scores = files.read_json(made.folder / "reports/evaluate/cpu/metrics.json")[name]
    for runtime, rung in (("bare", "quantized"), ("adapter", "adapter")):
        assert abs(scores["onnx"][runtime]["loss"] - scores["pytorch"][rung]["loss"]) < 0.25


def test_packing_lists_satisfy_their_schema_and_answers_end(made):
    metrics = files.read_json(made.folder / "reports/evaluate/cpu/metrics.json")
    for scores in (metrics["packing"]["pytorch"], metrics["packing"]["onnx"]):
        valid = {rung: score["valid"] for rung, score in scores.items() if "valid" in score}
        assert valid.pop("adapter") >= VALID > max(valid.values())
    # Of 38 prompts; travel has three, too few for a share to mean anything.
    assert metrics["packing"]["ended"]["adapter"] >= 0.9


@pytest.mark.parametrize(("name", "other"), [("travel", "packing"), ("packing", "travel")])
def test_each_adapter_answers_in_its_own_way(made, name, other):
    rows = [row for row in files.read_json(made.folder / "reports/evaluate/cpu/answers.json")[name] if "others" in row]
    assert rows
    assert all(row["others"][other] not in (row["adapter"], row["bare"]) for row in rows)


def test_the_packaged_model_answers(made):
    words = ["--adapter", "travel", "what is the best thing to see in chicago"]
    result = subprocess.run(
        [sys.executable, str(ROOT / "app.py"), *words], cwd=made.folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) >= 5
    assert "tokens/s" in result.stderr
