"""The check stage knows what each stage uses, and refuses what cannot run."""

import ast
from pathlib import Path

import pytest
import torch

from press import lock, settings
from press.errors import UserError
from stages import check

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's parameters and data files, which are empty."""
    monkeypatch.chdir(tmp_path)
    params = settings.load(ROOT / "params.yaml")
    Path("data").mkdir()
    for block in (params.quantize.calibration, params.evaluate.general, *params.adapters.values()):
        Path(block.data).touch()
    return tmp_path


def test_imports_are_found_at_the_top_in_functions_and_under_conditions():
    code = "import a.b\nimport c as d\nfrom e import f\ndef g():\n    from h.i import j\nif x:\n    import k\n"
    assert check.imported_modules(ast.parse(code)) == {"a.b", "c", "e", "e.f", "h.i", "h.i.j", "k"}


def test_local_modules_are_found_through_others_passes_and_user_scripts(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = {path.as_posix() for path in check.sources(Path("stages/finetune.py"))}
    # Itself, an import, an import of an import, a pass's module with its imports, a user script.
    assert {
        "stages/finetune.py",
        "press/settings.py",
        "press/templates.py",
        "passes/lora.py",
        "passes/data.py",
    } <= found
    assert not {"stages/quantize.py", "passes/builder.py", "press/runtime.py"} & found


def test_packages_include_those_of_packages_but_not_local_or_standard_ones(tmp_path):
    source = tmp_path / "source.py"
    source.write_text(
        "import json\nimport yaml\nfrom press import files\ndef f():\n    import jsonschema\n", encoding="utf-8"
    )
    found = check.packages([source])
    # `referencing` is jsonschema's, `rpds-py` is referencing's.
    assert {"pyyaml", "jsonschema", "referencing", "rpds-py"} <= found
    assert not {"json", "press", "olive-press", "numpy", "torch"} & found


def test_packages_that_do_not_run_are_left_out_with_all_that_only_they_use(tmp_path):
    source = tmp_path / "source.py"
    source.write_text("import yaml\nimport jsonschema\n", encoding="utf-8")
    assert check.packages([source], {"jsonschema"}) == {"pyyaml"}


def test_packages_include_what_a_library_imports_only_when_it_needs_it(tmp_path):
    source = tmp_path / "source.py"
    source.write_text("import onnxruntime_genai\n", encoding="utf-8")
    assert {"onnxruntime-genai", "onnx-ir", "torch", "transformers", "gguf"} <= check.packages([source])


@pytest.mark.parametrize("stage", ["fetch", "finetune"])
def test_the_packages_of_a_stage_are_all_locked(monkeypatch, stage):
    monkeypatch.chdir(ROOT)
    used = check.packages(check.sources(Path(f"stages/{stage}.py")))
    assert {"pydantic", "pyyaml", "torch", "transformers"} <= used
    # The registry's build of torch uses these; bitsandbytes is optional, and pinned by press/needs.py.
    cuda = lock.read(Path("requirements-cuda.lock")).keys()
    assert used - cuda - {"bitsandbytes"} <= lock.read().keys()


def test_a_stage_has_no_packages_that_only_another_one_uses(monkeypatch):
    monkeypatch.chdir(ROOT)
    prepare = check.packages(check.sources(Path("stages/prepare.py")))
    assert "azure-ai-ml" not in prepare
    assert "onnxruntime-genai" not in prepare
    assert "azure-ai-ml" in check.packages(check.sources(Path("stages/fetch.py")))


def test_every_stage_but_check_itself_has_a_script(monkeypatch):
    monkeypatch.chdir(ROOT)
    names = {path.stem for path in Path("stages").glob("*.py")} - {"__init__", "check"}
    assert check.stage_scripts() == {name: Path(f"stages/{name}.py") for name in names}


def test_parameters_whose_files_are_there_pass(project):
    check.check_files(settings.load(ROOT / "params.yaml"))


@pytest.mark.parametrize("algorithm", ["rtn", "gptq"])
def test_a_missing_calibration_text_is_named_since_the_pipeline_depends_on_it(project, algorithm):
    params = settings.load(ROOT / "params.yaml")
    params = params.model_copy(update={"quantize": params.quantize.model_copy(update={"algorithm": algorithm})})
    Path("data/calibration.jsonl").unlink()
    with pytest.raises(UserError) as caught:
        check.check_files(params)
    assert str(caught.value) == (
        "params.yaml: quantize.calibration.data names data/calibration.jsonl, which is not a file"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_gpu_that_is_not_there_is_named():
    params = settings.load(ROOT / "params.yaml")
    for device in ("auto", "cpu"):
        check.check_device(params.model_copy(update={"device": device}))
    with pytest.raises(UserError) as caught:
        check.check_device(params.model_copy(update={"device": "cuda"}))
    assert str(caught.value) == (
        "params.yaml: device is cuda, but PyTorch finds no CUDA device here: choose auto or cpu"
    )


def test_a_missing_general_text_is_named(project):
    Path("data/general.jsonl").unlink()
    with pytest.raises(UserError, match=r"yaml: evaluate\.general\.data names data/general\.jsonl, which is"):
        check.check_files(settings.load(ROOT / "params.yaml"))


def test_a_training_that_cannot_be_here_is_named_before_anything_runs():
    params = settings.load(ROOT / "params.yaml")
    adapter = params.adapter("travel")
    adapter = adapter.model_copy(update={"lora": adapter.lora.model_copy(update={"method": "qlora"})})
    params = params.model_copy(update={"device": "cpu", "adapters": {"travel": adapter}})
    with pytest.raises(UserError, match=r"^params.yaml: adapters.travel.lora.method is qlora, which needs a CUDA "):
        check.check_device(params)


def test_an_adapter_s_missing_data_is_named(project):
    Path("data/packing.jsonl").unlink()
    with pytest.raises(UserError) as caught:
        check.check_files(settings.load(ROOT / "params.yaml"))
    assert str(caught.value) == "params.yaml: adapters.packing.data names data/packing.jsonl, which is not a file"


def test_an_import_that_is_not_installed_is_optional(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import yaml\n\ntry:\n    import never_installed\nexcept ImportError:\n    pass\n", encoding="utf-8"
    )
    assert check.packages([script]) == {"pyyaml"}
