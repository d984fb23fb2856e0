"""Figures measured on two classes of machine: what may differ, by how much, and what may not."""

import copy
from pathlib import Path

import pytest

from press.core import files
from press.verify import measured

METRICS = {
    "packing": {
        "pytorch": {"quantized": {"loss": 2.457121, "kl": 0.1}},
        "onnx": {
            "bare": {
                "loss": 2.454,
                "perplexity": 11.63,
                "kl": 0.01,
                "agreement": 0.9,
                "valid": 0.0,
                "exact": 0.0,
                "fields": 0.0,
                "chrf": 0.2,
            }
        },
        "fields": {"days": 0.8},
        "ended": {"bare": 0.3, "adapter": 1.0},
        "attribution": {"lm_head": 0.0001},
    },
    "package": {"bytes": 150},
    "tasks": {"arc": {"acc": {"bare": 0.5}}},
}
AMD = {"architecture": "x86_64", "vendor": "AuthenticAMD", "instruction_sets": ["avx2"]}
INTEL = {"architecture": "x86_64", "vendor": "GenuineIntel", "instruction_sets": ["avx2", "avx512f"]}


def changed(name: str, value: object) -> dict:
    found = copy.deepcopy(METRICS)
    *parents, leaf = name.split(".")
    block = found
    for parent in parents:
        block = block[parent]
    block[leaf] = value
    return found


@pytest.mark.parametrize(
    ("name", "near", "far"),
    [
        ("packing.onnx.bare.loss", 2.4639, 2.4641),
        ("packing.onnx.bare.kl", 0.019, 0.021),
        ("packing.onnx.bare.perplexity", 11.7, 11.8),
        ("packing.onnx.bare.agreement", 0.885, 0.87),
        ("packing.onnx.bare.valid", 0.09, 0.11),
        ("packing.onnx.bare.exact", 0.09, 0.11),
        ("packing.onnx.bare.fields", 0.09, 0.11),
        ("packing.onnx.bare.chrf", 0.24, 0.26),
        ("packing.fields.days", 0.89, 0.91),
        ("packing.ended.bare", 0.45, 0.55),
        ("packing.attribution.lm_head", -0.0098, 0.0102),
        ("tasks.arc.acc.bare", 0.54, 0.56),
    ],
)
def test_a_figure_may_differ_by_its_tolerance_and_no_more(name, near, far):
    assert measured.differences(METRICS, changed(name, near)) == []
    (said,) = measured.differences(METRICS, changed(name, far))
    assert said.startswith(f"{name} is ")
    assert said.endswith(f", rebuilt {far}")


@pytest.mark.parametrize(("name", "value"), [("packing.pytorch.quantized.loss", 2.457122), ("package.bytes", 151)])
def test_what_is_portable_must_be_the_same(name, value):
    assert len(measured.differences(METRICS, changed(name, value))) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_is_near(value):
    assert measured.differences(METRICS, changed("packing.onnx.bare.loss", value))


def test_a_figure_of_one_build_only_is_named():
    assert measured.differences(METRICS, changed("packing.new", 1)) == ["packing.new is in one build only"]


@pytest.fixture
def projects(tmp_path: Path) -> tuple[Path, Path]:
    """Two projects, evaluated on machines of two classes."""
    both = (tmp_path / "recorded", tmp_path / "rebuilt")
    for folder, machine in zip(both, (AMD, INTEL), strict=True):
        files.write_json(folder / "reports/machine/evaluate/cpu.json", machine)
        files.write_json(folder / "reports/evaluate/cpu/metrics.json", METRICS)
        gates = {"gates": [{"gate": "a < 1", "passed": True, "reason": "r"}]}
        files.write_json(folder / "reports/evaluate/cpu/gates.json", gates)
        files.write_json(folder / "reports/evaluate/cpu/answers.json", {"of": str(folder)})
    return both


def test_what_is_measured_is_known_by_its_place():
    assert measured.is_measured(Path("reports/evaluate/cpu/metrics.json"))
    assert measured.is_measured(Path("reports/machine/evaluate/cpu.json"))
    assert not measured.is_measured(Path("reports/machine/quantize.json"))
    assert not measured.is_measured(Path("models/quantized"))


@pytest.mark.parametrize("name", ["metrics.json", "answers.json", "gates.json"])
def test_another_class_of_machine_may_measure_otherwise(projects, name):
    verdict = measured.judge(Path("reports/evaluate/cpu") / name, *projects)
    assert verdict.near
    assert "AuthenticAMD (avx2), rebuilt on GenuineIntel (avx2 avx512f)" in verdict.words
    assert measured.judge(Path("reports/machine/evaluate/cpu.json"), *projects).near


@pytest.mark.parametrize("name", ["metrics.json", "answers.json"])
def test_the_same_class_of_machine_may_not(projects, name):
    files.write_json(projects[1] / "reports/machine/evaluate/cpu.json", AMD)
    verdict = measured.judge(Path("reports/evaluate/cpu") / name, *projects)
    assert verdict == measured.Verdict(False, "measured on the same class of machine")


def test_figures_beyond_the_tolerance_are_named(projects):
    files.write_json(projects[1] / "reports/evaluate/cpu/metrics.json", changed("packing.onnx.bare.loss", 3.0))
    verdict = measured.judge(Path("reports/evaluate/cpu/metrics.json"), *projects)
    assert not verdict.near
    assert verdict.words.endswith("packing.onnx.bare.loss is 2.454, rebuilt 3.0")


def test_a_gate_that_is_passed_on_one_machine_only_is_no_tolerance(projects):
    gates = {"gates": [{"gate": "a < 1", "passed": False, "reason": "s"}]}
    files.write_json(projects[1] / "reports/evaluate/cpu/gates.json", gates)
    assert not measured.judge(Path("reports/evaluate/cpu/gates.json"), *projects).near
