"""A package's files and digest say what it was built from, and nothing of what was measured, nor on which machine."""

import shutil
from pathlib import Path

import pytest
from projects import ROOT

from press.core import files
from press.core.errors import UserError
from press.package import contents, verdict
from press.params import settings

MODEL = {
    "models/base/LICENSE": "Terms.\n",
    "models/base/NOTICE": "Notice.\n",
    "models/base/README.md": "# The base model's card\n",
    "models/captured/cpu/model.onnx": "graph",
    "models/captured/cpu/tokenizer.json": "{}",
    "models/captured/cpu/base.json": '{"base_sha256": "abc"}',
    "models/captured/cpu/lora_inputs.json": "{}",
    "models/converted/cpu/travel/adapter.onnx_adapter": "weights",
    "models/converted/cpu/travel/adapter.json": "{}",
    "models/converted/cpu/packing/merged/model.onnx": "graph with weights",
    "models/converted/cpu/packing/adapter.json": "{}",
    "prepared/travel/adapter.json": '{"data_sha256": "t"}',
    "prepared/packing/adapter.json": '{"data_sha256": "p"}',
    "reports/environment/package.txt": "dvc==1\n",
}
NAMES = {
    *("LICENSE", "NOTICE", "model.onnx", "tokenizer.json"),
    *("adapters/travel/adapter.onnx_adapter", "adapters/travel/adapter.json"),
    *("adapters/packing/merged/model.onnx", "adapters/packing/adapter.json"),
}


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    """The project's parameters, in a working folder with all that a package is made of."""
    monkeypatch.chdir(tmp_path)
    for name, text in MODEL.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "data", "data")
    return settings.load(ROOT / "params.yaml")


def gathered(params: settings.Settings, folder: str) -> Path:
    """Gather the package in a new folder."""
    building = Path(folder)
    building.mkdir()
    contents.gather("cpu", params, building)
    return building


def measure(params: settings.Settings, metrics: dict, machine: str) -> None:
    """Leave an evaluation, as on another machine."""
    folder = Path("reports/evaluate/cpu")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.jsonl").write_text("", encoding="utf-8")
    verdict.write("cpu", params, metrics, folder)
    for name in ("fetch", "quantize", "finetune/travel", "finetune/packing", "capture/cpu", "evaluate/cpu"):
        files.write_json(Path(f"reports/machine/{name}.json"), {"vendor": machine})


def test_a_package_has_the_model_the_adapters_the_licences_and_a_manifest(params):
    package = gathered(params, "package")
    manifest = files.read_json(package / "manifest.json")
    assert set(manifest) == {"name", "target", "base_sha256", "inputs", "files"}
    assert (manifest["target"], manifest["base_sha256"]) == ("cpu", "abc")
    present = files.digests(package)
    del present["manifest.json"]
    assert manifest["files"] == present
    assert set(present) == NAMES
    assert set(manifest["inputs"]) == {"params", "base_model_sha256", "data_sha256", "environment_sha256"}
    assert manifest["inputs"]["data_sha256"]["data/travel.jsonl"] == "t"


def test_the_size_is_that_of_all_files_but_the_manifest(params):
    package = gathered(params, "package")
    assert contents.size("cpu", params) == files.size(package) - (package / "manifest.json").stat().st_size > 0


def test_another_evaluation_on_another_machine_gives_the_same_bytes(params, metrics):
    measure(params, metrics, "AuthenticAMD")
    first = files.digests(gathered(params, "first"))
    metrics["travel"]["onnx"]["adapter"]["loss"] += 0.0001
    measure(params, metrics, "GenuineIntel")
    assert files.digests(gathered(params, "second")) == first


def test_what_a_package_is_built_from_changes_its_digest(params):
    first = files.digests(gathered(params, "first"))["manifest.json"]
    for name in ("models/captured/cpu/model.onnx", "models/converted/cpu/travel/adapter.onnx_adapter"):
        Path(name).write_text("another", encoding="utf-8")
        other = files.digests(gathered(params, Path(name).stem))["manifest.json"]
        assert other != first
        first = other


@pytest.mark.parametrize("name", ["models/captured/cpu", "models/converted/cpu/packing/merged"])
def test_what_nobody_could_open_is_not_gathered(params, name):
    files.write_json(Path(name, "genai_config.json"), {"model": {"tokenizer_dir": "/tmp"}})
    with pytest.raises(UserError, match=r"genai_config\.json sets model\.tokenizer_dir, which is not among"):
        gathered(params, "package")
