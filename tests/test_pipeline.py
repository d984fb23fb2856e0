"""The whole DAG on a tiny random model: what it makes."""

import re
import sys

import pytest
import yaml
from projects import assert_sentence, stale

from press.core import files

pytestmark = pytest.mark.integration
PYTHON = sys.executable


def test_the_package_holds_all_that_an_application_needs(built):
    package = built.folder / "packages/cpu"
    manifest = files.read_json(package / "manifest.json")
    present = files.digests(package)
    del present["manifest.json"]
    assert manifest["files"] == present
    model = {"model.onnx", "model.onnx.data", "genai_config.json", "tokenizer.json", "LICENSE"}
    adapters = {f"adapters/{name}/adapter.{end}" for name in ("travel", "packing") for end in ("onnx_adapter", "json")}
    assert model | adapters <= set(present)
    assert not {"README.md", "metrics.json", "gates.json"} & set(present)
    inputs = manifest["inputs"]
    assert inputs["params"]["adapters"]["travel"]["lora"]["rank"] == 4
    assert inputs["data_sha256"]["data/travel.jsonl"] == files.sha256(built.folder / "data/travel.jsonl")


def test_an_evaluation_judges_the_package_and_writes_its_card(built):
    folder = built.folder / "reports/evaluate/cpu"
    metrics, gates = files.read_json(folder / "metrics.json"), files.read_json(folder / "gates.json")["gates"]
    package = built.folder / "packages/cpu"
    assert metrics["package"]["bytes"] == files.size(package) - (package / "manifest.json").stat().st_size
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert {gate["gate"].partition(".")[0] for gate in gates} == {"travel", "packing"}
    assert all(f"- passed: `{gate['gate']}` ({gate['reason']})" in card for gate in gates)


def test_a_gate_touches_the_evaluation_and_is_said_when_it_is_not_passed(copy):
    copy.edit("params.yaml", "adapter.loss + 0.5", "adapter.loss - 100")
    copy.resolve()
    before = files.digests(copy.folder / "reports/evaluate/cpu")
    result = copy.in_process("evaluate cpu")
    assert "gate not passed, so that `make publish` refuses it: travel.onnx.adapter.loss <= " in result.stdout
    after = files.digests(copy.folder / "reports/evaluate/cpu")
    assert {name for name in after if after[name] != before[name]} == {"README.md", "gates.json"}


def test_a_package_has_the_same_bytes_whatever_was_measured_and_on_which_machine(copy):
    before = files.digests(copy.folder / "packages/cpu")
    figures = [*(copy.folder / "reports/evaluate").rglob("*.*"), *(copy.folder / "reports/machine").rglob("*.json")]
    assert len(figures) > 10
    for path in figures:
        path.write_text("of another machine\n", encoding="utf-8")
    assert "package@cpu" not in stale(copy)
    assert copy.in_process("package cpu").returncode == 0
    assert files.digests(copy.folder / "packages/cpu") == before


def test_every_adapter_answers_the_samples_of_every_other(built):
    answers = files.read_json(built.folder / "reports/evaluate/cpu/answers.json")
    samples = yaml.safe_load((built.folder / "params.yaml").read_text())["adapters"]
    for name, other in (("travel", "packing"), ("packing", "travel")):
        first = len(samples[name]["samples"])
        assert [list(row["others"]) for row in answers[name][:first]] == [[other]] * first
        # The rest are held-out prompts.
        assert all("others" not in row for row in answers[name][first:])


def test_each_olive_step_runs_by_hand_from_its_report(copy):
    """As `olive run` does it; one process for all four, since most of its time goes into imports."""
    reports = [
        f"reports/olive/{name}.json" for name in ("quantize", "finetune/travel", "capture/cpu", "convert/cpu/travel")
    ]
    script = """
import sys
from olive.cli.launcher import main

for report in sys.argv[1:]:
    main(["run", "--package-config", "passes/olive.json", "--config", report])
"""
    copy.environment["PYTHONPATH"] = str(copy.folder)
    copy.run(PYTHON, "-c", script, *reports)
    for report in reports:
        config = files.read_json(copy.folder / report)
        assert (copy.folder / config["output_dir"] / "model_config.json").exists(), report
    by_hand = copy.folder / config["output_dir"] / "adapter/adapter.onnx_adapter"
    assert files.sha256(by_hand) == files.sha256(copy.folder / "models/converted/cpu/travel/adapter.onnx_adapter")


def test_an_adapters_file_is_made_without_what_takes_seconds_to_import(copy):
    script = """
import sys
from pathlib import Path

from press.model import conversion
from press.params import settings

folder = Path("by-hand")
folder.mkdir()
assert not conversion.computes("cpu", "travel", settings.load())
conversion.convert("cpu", "travel", settings.load(), folder)
print(sorted({"olive", "peft", "torch", "transformers"} & set(sys.modules)))
"""
    copy.environment["PYTHONPATH"] = str(copy.folder)
    assert copy.run(PYTHON, "-c", script).stdout == "[]\n"
    assert files.digests(copy.folder / "by-hand/adapter") == files.digests(copy.folder / "models/converted/cpu/travel")


def test_nothing_of_this_machine_is_in_the_outputs(built):
    folders = [built.folder / name for name in ("models", "prepared", "packages", "reports")]
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        assert str(built.folder).encode() not in path.read_bytes(), path


def test_a_failed_run_taken_back_leaves_nothing_stale(copy):
    copy.edit("params.yaml", "    rank: 4", "    target_modules: [query]\n    rank: 4")
    copy.resolve()
    assert_sentence(copy.in_process("finetune travel"), "lora.target_modules names query")
    copy.edit("params.yaml", "    target_modules: [query]\n", "")
    copy.resolve()
    assert not stale(copy)


def test_a_second_target_is_built_beside_the_first(copy):
    text = (copy.folder / "params.yaml").read_text(encoding="utf-8")
    block = re.search(r"^  cpu:\n(?:    .*\n)+", text, re.MULTILINE)[0]
    better = block.replace("cpu:", "better:", 1).replace("precision: int8", "precision: float")
    copy.edit("params.yaml", block, block + better)
    copy.resolve()
    before = files.folder_digest(copy.folder / "packages/cpu")
    for words in ("capture better", "convert better travel", "convert better packing", "evaluate better"):
        assert copy.in_process(words).returncode == 0
    assert copy.in_process("package better").returncode == 0
    first, second = (copy.folder / f"packages/{name}" for name in ("cpu", "better"))
    assert files.folder_digest(first) == before
    assert files.digests(second).keys() == files.digests(first).keys()
    assert files.size(second) > files.size(first)


@pytest.mark.parametrize(
    ("package", "users"),
    [
        ("peft", {"finetune", "convert", "evaluate"}),
        ("dvclive", {"finetune"}),
        ("azure-ai-ml", {"fetch"}),
        ("pytest", set()),
    ],
)
def test_a_bumped_library_reruns_what_uses_it(copy, package, users):
    """`check` refuses a lock that is not installed, so its lists are bumped as it would after `make install`."""
    for path in (copy.folder / "reports/environment").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(rf"^{package}==.*", f"{package}==99", text, flags=re.MULTILINE), encoding="utf-8")
    # The package's manifest records all of them.
    expected = users | {"package"} if users else set()
    assert {name.partition("@")[0] for name in stale(copy)} - {"check"} == expected
