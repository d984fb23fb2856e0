"""The whole DAG on a tiny random model as jobs of Azure ML: the real SDK, and a workspace on loopback that runs it."""

import os
from pathlib import Path

import pytest
import yaml
from loaded_python import Loaded
from projects import Project

from press.core import files

from .press.cluster.azureml_compute import AzureCompute
from .press.cluster.conftest import configure, lock

pytestmark = pytest.mark.integration
NOWHERE, CLUSTER = {"compute": "", "instance_type": ""}, {"compute": "cpu-cluster", "instance_type": ""}
BLOCK = {
    "resources": {"default": {"cpus": 1, "memory": 1, "gpus": 0}},
    "azureml": {
        "cpu": CLUSTER,
        "gpu": NOWHERE,
        "spot": False,
        "identity": "",
        "image": f"press.azurecr.io/olive-press-jobs@sha256:{'0' * 64}",
    },
}


@pytest.fixture
def unbuilt(built: Project, tmp_path: Path) -> Project:
    """A project with the tiny preset, a remote, and nothing built."""
    project = built.copy_to(tmp_path / "olive-press")
    for name in ("dvc.lock", "models", "prepared", "packages", ".dvc/cache"):
        files.remove(project.folder / name)
    project.run("dvc", "remote", "add", "--force", "--default", "storage", str(tmp_path / "remote"))
    configure(project, BLOCK)
    return project


def test_every_stage_of_the_tiny_preset_is_a_job_and_gives_what_it_gives_here(unbuilt, built, tmp_path):
    with AzureCompute(tmp_path) as azure, Loaded(tmp_path / "python") as loaded:
        azure.machine["PATH"] = os.pathsep.join([str(loaded.python.parent), "/usr/bin", "/bin"])
        unbuilt.environment |= {**azure.environment, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        result = unbuilt.module("press.cluster", "run", "azureml")
        assert not azure.unexpected
    assert result.returncode == 0, result.stderr
    # Side by side, where nothing separates them.
    trainings = [f"finetune@{adapter} is" for adapter in ("travel", "packing")]
    handed, done = ([result.stdout.index(f"{each} {what}") for each in trainings] for what in ("handed out", "done in"))
    assert max(handed) < min(done)
    recorded = yaml.safe_load((built.folder / "dvc.lock").read_text(encoding="utf-8"))
    assert {job.stage for job in azure.executions.values()} == recorded["stages"].keys() - {"check"}
    assert {job.status for job in azure.executions.values()} == {"Completed"}
    assert lock(unbuilt) == recorded
    assert files.digests(unbuilt.folder / "packages") == files.digests(built.folder / "packages")
