"""The packages that code uses, directly or not."""

import ast
from importlib import metadata
from pathlib import Path

import pytest
from projects import ROOT

from press.core import code, libraries, packages


def used(source: str, unused: set[str] = frozenset()) -> set[str]:
    return libraries.used([ast.parse(source)], unused)


def of_stage(name: str) -> set[str]:
    project = code.Project(ROOT)
    modules = project.uses(Path(f"stages/{name}.py"), through_front_door=True)
    return libraries.used(map(project.tree, modules))


def test_packages_of_packages_are_among_them_but_not_local_or_standard_ones():
    found = used("import json\nimport yaml\nfrom press.core import files\ndef f():\n    import jsonschema\n")
    # `referencing` is jsonschema's, `rpds-py` is referencing's.
    assert {"pyyaml", "jsonschema", "referencing", "rpds-py"} <= found
    assert not {"json", "press", "olive-press", "numpy", "torch"} & found


def test_imports_are_found_wherever_they_stand():
    assert used("if x:\n    import yaml\n") == used("def f():\n    from yaml import y\n") == {"pyyaml"}


def test_packages_that_do_not_run_are_left_out_with_all_that_only_they_use():
    assert used("import yaml\nimport jsonschema\n", {"jsonschema"}) == {"pyyaml"}


def test_what_a_library_imports_only_when_it_needs_it_is_among_them():
    assert {"onnxruntime-genai", "onnx-ir", "torch", "transformers", "gguf"} <= used("import onnxruntime_genai\n")


def test_an_import_that_is_not_installed_is_optional():
    assert used("import yaml\n\ntry:\n    import never_installed\nexcept ImportError:\n    pass\n") == {"pyyaml"}


@pytest.mark.parametrize("stage", ["fetch", "finetune"])
def test_the_packages_of_a_stage_are_all_locked(monkeypatch, stage):
    monkeypatch.chdir(ROOT)
    found = of_stage(stage)
    assert {"pydantic", "pyyaml", "torch", "transformers"} <= found
    # It is optional, and pinned by press/model/device.py.
    assert found - {"bitsandbytes"} <= packages.read().keys()


def test_a_stage_has_no_packages_that_only_another_one_uses():
    prepare = of_stage("prepare")
    assert "azure-ai-ml" not in prepare
    assert "peft" not in prepare
    assert "azure-ai-ml" in of_stage("fetch")
    assert "peft" in of_stage("finetune")


def test_what_an_installed_package_says_is_read_once_for_all_stages(monkeypatch):
    first = used("import jsonschema\n")
    for name in ("packages_distributions", "requires", "version"):
        monkeypatch.setattr(metadata, name, None)
    assert used("import jsonschema\nimport json\n") == first
