"""Files that params.yaml names and that are not there are named before anything runs."""

from pathlib import Path

import pytest
from projects import ROOT

from press.core.errors import UserError
from press.params import checks, resolving, settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's parameters and data files, which are empty."""
    monkeypatch.chdir(tmp_path)
    params = settings.load(ROOT / "params.yaml")
    Path("data").mkdir()
    for block in (params.quantize.calibration, params.evaluate.general, *params.adapters.values()):
        Path(block.data).touch()
    return tmp_path


def test_parameters_whose_files_are_there_pass(project):
    checks.check_files(settings.load(ROOT / "params.yaml"))


def test_a_gate_about_an_adapter_that_is_not_there_is_named():
    found = resolving.Resolved(ROOT / "params.yaml")
    params = settings.validated(found)
    checks.check_gates(params, found)
    found.gates.append((("gates", "own", "days"), "hotel.onnx.adapter.valid >= 0.8"))
    with pytest.raises(UserError) as caught:
        checks.check_gates(params, found)
    assert str(caught.value) == (
        f"{ROOT / 'params.yaml'}: gates.own.days: 'hotel.onnx.adapter.valid >= 0.8': hotel.onnx.adapter.valid is about "
        "'hotel', but there are only the adapters packing, travel, and bytes, general, package"
    )


@pytest.mark.parametrize("algorithm", ["rtn", "gptq"])
def test_a_missing_calibration_text_is_named_since_the_pipeline_depends_on_it(project, algorithm):
    params = settings.load(ROOT / "params.yaml")
    params = params.model_copy(update={"quantize": params.quantize.model_copy(update={"algorithm": algorithm})})
    Path("data/calibration.jsonl").unlink()
    with pytest.raises(UserError) as caught:
        checks.check_files(params)
    assert str(caught.value) == (
        "params.yaml: quantize.calibration.data names data/calibration.jsonl, which is not a file"
    )


def test_a_missing_general_text_is_named(project):
    Path("data/general.jsonl").unlink()
    with pytest.raises(UserError, match=r"yaml: evaluate\.general\.data names data/general\.jsonl, which is"):
        checks.check_files(settings.load(ROOT / "params.yaml"))


def test_an_adapter_s_missing_data_is_named(project):
    Path("data/packing.jsonl").unlink()
    with pytest.raises(UserError) as caught:
        checks.check_files(settings.load(ROOT / "params.yaml"))
    assert (
        str(caught.value)
        == "params.yaml: adapters.packing.data names data/packing.jsonl, which is neither a file nor a folder"
    )


@pytest.mark.parametrize("name", ["", ".", "data/" + "x" * 300])
def test_data_that_can_be_no_file_is_refused(project, name):
    params = settings.load(ROOT / "params.yaml")
    travel = params.adapters["travel"].model_copy(update={"data": name})
    params = params.model_copy(update={"adapters": {"travel": travel}})
    with pytest.raises(UserError, match=r"^params\.yaml: adapters\.travel\.data (must name|names)"):
        checks.check_files(params)
