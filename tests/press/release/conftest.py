"""A small project with a package, as the pipeline would build it, in a git repository with a remote of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from projects import ROOT, Project

BUILD = """
import json
import shutil
from pathlib import Path
from press.core import files
from press.params import settings

folder = Path("packages/cpu")
shutil.rmtree(folder, ignore_errors=True)
(folder / "adapters/travel").mkdir(parents=True)
text = Path("content.txt").read_text()
(folder / "model.onnx").write_text(text)
(folder / "adapters/travel/adapter.onnx_adapter").write_text(text * 2)
scores = {"travel": {"onnx": {"adapter": {"loss": 1.5}}}, "general": {"onnx": {"bare": {"loss": 2}}}, "bytes": {}}
files.write_json(folder / "metrics.json", scores)
gates = json.loads(Path("gates.json").read_text())
inputs = {
    "params": settings.load().model_dump(),
    "machines": {},
    "base_model_sha256": "0" * 64,
    "data_sha256": {"content.txt": files.sha256(Path("content.txt"))},
}
manifest = {"base_sha256": "0" * 64, "gates": gates, "inputs": inputs, "files": files.digests(folder)}
files.write_json(folder / "manifest.json", manifest)
"""
PIPELINE = {
    "stages": {
        "package": {
            "cmd": "python build.py",
            "deps": ["build.py", "content.txt", "gates.json"],
            "outs": ["packages/cpu"],
        }
    },
    "artifacts": {"olive-press": {"path": "releases/cpu", "type": "model"}},
}


@pytest.fixture(scope="session")
def published_from(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project, built and committed, with a git remote and a folder as DVC remote. Copy it to change it."""
    place = tmp_path_factory.mktemp("release")
    project = Project(place / "project")
    project.folder.mkdir()
    # A key of the machine's user must not sign what tests make.
    home = {"PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(place / "config")}
    project.environment |= home | {"DVC_NO_ANALYTICS": "1"}
    for name, text in (
        ("build.py", BUILD),
        ("gates.json", '[{"gate": "a.b <= 1", "passed": true, "reason": "0 against 1"}]'),
        ("dvc.yaml", yaml.safe_dump(PIPELINE)),
    ):
        (project.folder / name).write_text(text, encoding="utf-8")
    for name in ("params.yaml", "requirements.lock"):
        shutil.copyfile(ROOT / name, project.folder / name)
    project.run("git", "init", "--quiet")
    for key, value in (("name", "test"), ("email", "test@example.com")):
        project.run("git", "config", f"user.{key}", value)
    project.run("dvc", "init", "--quiet")
    project.run("dvc", "remote", "add", "--quiet", "--default", "storage", "../storage")
    rebuild(project, "the weights\n")
    return project


@pytest.fixture
def release(published_from: Project, tmp_path: Path) -> Project:
    """A copy of the project, with remotes of its own beside it."""
    result = published_from.copy_to(tmp_path / "project")
    result.environment = dict(published_from.environment)
    result.run("git", "init", "--quiet", "--bare", str(tmp_path / "origin.git"))
    result.run("git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    result.run("git", "push", "--quiet", "origin", "HEAD")
    return result


def rebuild(project: Project, content: str) -> None:
    """Build, release and commit a package with another content."""
    (project.folder / "content.txt").write_text(content, encoding="utf-8")
    project.run("dvc", "repro", "--quiet")
    project.commit()
    assert run(project, "release").returncode == 0
    project.commit()


def clone(project: Project, folder: Path) -> Project:
    """Return a clone of the project's origin, with the same DVC remote."""
    project.run("git", "push", "--quiet", "origin", "HEAD")
    project.run("git", "clone", "--quiet", str(project.folder.parent / "origin.git"), str(folder))
    result = Project(folder)
    result.environment = dict(project.environment)
    return result


def storage(project: Project, *words: str) -> subprocess.CompletedProcess:
    """Run `python -m press.release.storage`."""
    return project.run(sys.executable, "-m", "press.release.storage", *words, check=False)


def run(project: Project, *words: str) -> subprocess.CompletedProcess:
    """Run `python -m press.release`."""
    return project.run(sys.executable, "-m", "press.release", *words, check=False)
