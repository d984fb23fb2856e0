"""Each mistake in `passes` gives one sentence, which names place, index and key."""

import ast
import sys

import pytest
from projects import ROOT

from press.core.errors import UserError
from press.model import pass_checks
from press.params import schema

EMPTY: dict[str, list] = {"before_quantize": [], "after_quantize": [], "after_capture": []}


def passes(**places: list[dict]) -> schema.Passes:
    return schema.Passes.model_validate(EMPTY | places)


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def surgeries(**options: object) -> dict:
    return {"type": "GraphSurgeries", "surgeries": [{"surgeon": "RemoveShapes", **options}]}


CHEAP = [
    ("before_quantize", {"type": "quarot"}, "0.type is 'quarot', which Olive has no pass of: is QuaRot meant?"),
    (
        "after_quantize",
        {"type": "Nothing"},
        "0.type is 'Nothing', which Olive has no pass of: after_quantize takes AutoClip, QuaRot, SliceGPT, SparseGPT",
    ),
    # The project's own, which the pipeline runs by itself.
    ("before_quantize", {"type": "LoRAInputs"}, "0.type is 'LoRAInputs', which Olive has no pass of"),
    (
        "before_quantize",
        surgeries(),
        "0.type is GraphSurgeries, which is no pass for a PyTorch model, as before_quantize has it; it goes with "
        "after_capture",
    ),
    (
        "after_capture",
        {"type": "QuaRot"},
        "0.type is QuaRot, which is no pass for an ONNX graph, as after_capture has it; it goes with before_quantize "
        "or after_quantize",
    ),
    (
        "after_capture",
        {"type": "OpenVINOConversion"},
        "0.type is OpenVINOConversion, which is no pass for an ONNX graph",
    ),
    (
        "before_quantize",
        {"type": "SpinQuant"},
        "0.type is SpinQuant, which cannot be used here: it trains on a",
    ),
    ("before_quantize", {"type": "Rtn"}, "0.type is Rtn, which cannot be used here: it quantizes the layers"),
    ("after_capture", {"type": "ModelBuilder"}, "0.type is ModelBuilder, which cannot be used here: it makes a graph"),
    (
        "before_quantize",
        {"type": "QuaRot", "user_script": "a.py"},
        "0.user_script would run code that no stage",
    ),
    ("after_capture", surgeries(script_dir="a"), "0.surgeries.0.script_dir would run code that no stage depends on"),
    ("after_capture", surgeries(trust_remote_code=True), "0.surgeries.0.trust_remote_code would run code"),
    (
        "before_quantize",
        {"type": "SparseGPT", "data_config": {"load_dataset_config": {"data_name": "a/b"}}},
        "0.data_config is given by the stage, the text of quantize.calibration: leave it out",
    ),
    ("after_capture", {**surgeries(), "external_data_name": "a"}, "0.external_data_name names a place for files"),
    ("after_capture", surgeries(output_dir="a"), "0.surgeries.0.output_dir names a place for files"),
    ("after_capture", surgeries(name="../a"), "0.surgeries.0.name is '../a', which is a place outside"),
    ("after_capture", surgeries(name="https://a/b"), "0.surgeries.0.name is 'https://a/b', which is a place outside"),
    (
        "after_capture",
        {"type": "IncDynamicQuantization"},
        "0.type is IncDynamicQuantization, which needs the package neural-compressor: add it to requirements.txt",
    ),
    ("before_quantize", {"type": "SliceGPT"}, "0.type is SliceGPT, which needs the package slicegpt: add it to"),
    (
        "after_capture",
        {"type": "OnnxPeepholeOptimizer"},
        "0.type is OnnxPeepholeOptimizer, which needs the package onnxoptimizer: add it to requirements.txt, then "
        "`make lock` and `make install`, or set onnxoptimizer_optimize to false",
    ),
]
BY_OLIVE = [
    ("before_quantize", {"type": "QuaRot", "sead": 1}, "0.sead is no option of QuaRot, only seed, rotate_mode"),
    (
        "before_quantize",
        {"type": "QuaRot", "rotate_mode": "diagonal"},
        "0.rotate_mode is 'diagonal', but must be hadamard or random",
    ),
    ("before_quantize", {"type": "QuaRot", "seed": "x"}, "0.seed is 'x', but must be an integer"),
    (
        "before_quantize",
        {"type": "AutoClip", "group_size": 0},
        "0: AutoClip does not take these options: group_size",
    ),
    ("after_capture", {"type": "GraphSurgeries"}, "0.surgeries, which GraphSurgeries needs, is missing: List of"),
]


def complaint(place: str, given: dict) -> str:
    with pytest.raises(UserError) as caught:
        pass_checks.check(passes(**{place: [given]}))
    return str(caught.value).removeprefix(f"params.yaml: passes.{place}.")


@pytest.mark.parametrize(("place", "given", "said"), CHEAP)
def test_what_the_registry_can_tell_is_told_without_olive(place, given, said, monkeypatch):
    monkeypatch.setattr(pass_checks, "schema_of", lambda _: pytest.fail("this asks Olive"))
    assert complaint(place, given).startswith(said)


@pytest.mark.integration
@pytest.mark.parametrize(("place", "given", "said"), BY_OLIVE)
def test_olive_s_own_schema_judges_options(place, given, said):
    assert complaint(place, given).startswith(said)


@pytest.mark.integration
def test_the_second_pass_of_a_place_is_named_by_its_index():
    fine = {"type": "QuaRot", "seed": 1, "rotate_mode": "random"}
    with pytest.raises(UserError, match=r"^params\.yaml: passes\.before_quantize\.1\.sead is no option of QuaRot"):
        pass_checks.check(passes(before_quantize=[fine, {"type": "QuaRot", "sead": 1}]))


@pytest.mark.integration
def test_what_is_fine_passes():
    clean = {"type": "OnnxPeepholeOptimizer", "onnxoptimizer_optimize": False}
    pass_checks.check(passes(before_quantize=[{"type": "QuaRot"}, {"type": "SparseGPT"}], after_capture=[clean]))


def test_no_pass_asks_nothing_of_olive(monkeypatch):
    monkeypatch.setitem(sys.modules, "olive", None)
    pass_checks.check(passes())
    assert pass_checks.trees(passes(), "quantize") == []


def test_the_libraries_of_a_pass_are_those_of_the_stages_that_run_it():
    given = passes(after_capture=[{"type": "OnnxPeepholeOptimizer"}])
    found = {stage: pass_checks.trees(given, stage) for stage in ("fetch", "quantize", "capture", "convert")}
    assert {stage: len(trees) for stage, trees in found.items()} == {
        "fetch": 0,
        "quantize": 0,
        "capture": 1,
        "convert": 1,
    }
    assert "onnxscript" in {node.module for node in ast.walk(found["capture"][0]) if isinstance(node, ast.ImportFrom)}


def test_each_pass_that_is_refused_is_one_of_olive_s():
    assert set(pass_checks.REFUSED) <= set(pass_checks._registry()["passes"])
