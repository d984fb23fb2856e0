"""What `make repro` made of the default model, in this folder: the figures that README promises, and the bytes.

Nothing is built here but two stages that train nothing, once more, elsewhere: `make repro` comes first.
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from projects import ROOT

from press.core import files, paths, shell
from press.verify import __main__ as verify

pytestmark = [pytest.mark.default_model, pytest.mark.timeout(1200)]
# Of the share of valid packing lists: what the project promises.
VALID = 0.95
# Copied or cut, by no arithmetic.
EXACT = (paths.BASE, paths.PREPARED)


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """The project's folder, up to date."""
    result = run("-m", "dvc", "status")
    assert "Data and pipelines are up to date." in result.stdout, f"run `make repro` first: {result.stdout}"


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def evaluated(name: str) -> dict:
    return files.read_json(ROOT / paths.EVALUATED / "cpu" / name)


@pytest.mark.parametrize("name", ["travel", "packing"])
def test_an_adapter_lowers_the_onnx_models_heldout_loss_clearly(name):
    scores = evaluated(paths.METRICS)[name]
    assert scores["onnx"]["adapter"]["loss"] < 0.85 * scores["onnx"]["bare"]["loss"]


@pytest.mark.parametrize("name", ["travel", "packing"])
def test_onnx_stays_near_pytorch(name):
    """The int4 head and int8 activations cost some; a wrong graph would cost nats."""
    scores = evaluated(paths.METRICS)[name]
    for runtime, rung in (("bare", "quantized"), ("adapter", "adapter")):
        assert abs(scores["onnx"][runtime]["loss"] - scores["pytorch"][rung]["loss"]) < 0.25


def test_packing_lists_satisfy_their_schema_and_answers_end():
    metrics = evaluated(paths.METRICS)
    valid = {rung: score["valid"] for rung, score in metrics["packing"]["onnx"].items()}
    assert valid.pop("adapter") >= VALID > max(valid.values())
    for name in ("packing", "travel"):
        assert metrics[name]["ended"]["adapter"] >= 0.95


@pytest.mark.parametrize(("name", "other"), [("travel", "packing"), ("packing", "travel")])
def test_each_adapter_answers_in_its_own_way(name, other):
    rows = [row for row in evaluated(paths.ANSWERS)[name] if "others" in row]
    assert rows
    assert all(row["others"][other] not in (row["adapter"], row["bare"]) for row in rows)


def test_the_packaged_model_answers():
    result = run("app.py", "--adapter", "travel", "how far in advance should i arrive at the airport")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) >= 5
    assert "tokens/s" in result.stderr


def test_what_is_copied_and_cut_has_the_bytes_that_are_recorded_on_any_machine():
    recorded, made = verify.outputs(verify.committed(ROOT)), verify.outputs(verify.Built(ROOT).lock())
    exact = {path for path in recorded | made if any(path.is_relative_to(folder) for folder in EXACT)}
    assert exact == {paths.BASE, Path("prepared/travel"), Path("prepared/packing")}
    assert {path: made.get(path) for path in exact} == {path: recorded.get(path) for path in exact}


@pytest.fixture
def portable() -> None:
    """A machine on which the floats are those that dvc.lock records."""
    committed = shell.output("git", "show", f"HEAD:./{paths.MACHINES}/evaluate/cpu.json", folder=ROOT)
    recorded = json.loads(committed)["architecture"]
    if platform.machine() != recorded:
        pytest.skip(f"dvc.lock has the floats of {recorded}, and this is {platform.machine()}")


@pytest.mark.usefixtures("portable")
def test_every_output_has_the_bytes_that_are_recorded():
    """And what ONNX Runtime measured on another class of machine is near enough."""
    result = run("-m", "press.verify", "--built")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.usefixtures("portable")
def test_a_stage_gives_the_same_bytes_once_more_elsewhere():
    result = run("-m", "press.verify", "capture", "convert")
    assert result.returncode == 0, result.stdout + result.stderr
    assert ", 0 different" in result.stdout
