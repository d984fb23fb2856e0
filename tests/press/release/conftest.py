"""A small project with a package and its figures, as the pipeline would build them, with a git remote of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from projects import ROOT, Project

BUILD = """
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
inputs = {
    "params": settings.load().model_dump(),
    "base_model_sha256": "0" * 64,
    "data_sha256": {"content.txt": files.sha256(Path("content.txt"))},
}
manifest = {"target": "cpu", "base_sha256": "0" * 64, "inputs": inputs, "files": files.digests(folder)}
files.write_json(folder / "manifest.json", manifest)
"""
MEASURE = """
from pathlib import Path
from press.core import files

folder, machines = Path("reports/evaluate/cpu"), Path("reports/machine")
measured = files.read_json(Path("measured.json"))
scores = {"travel": {"onnx": {"adapter": {"loss": measured["loss"]}}}, "general": {"onnx": {"bare": {"loss": 2}}}}
files.write_json(folder / "metrics.json", scores | {"bytes": {}})
files.write_json(folder / "gates.json", {"gates": measured["gates"]})
(folder / "README.md").write_text(f"# A card: {measured['loss']}\\n")
for name in ("fetch", "quantize", "finetune/travel", "finetune/packing", "capture/cpu", "evaluate/cpu"):
    files.write_json(machines / f"{name}.json", {"vendor": measured["vendor"]})
"""
MEASURED = {
    "loss": 1.5,
    "vendor": "AuthenticAMD",
    "gates": [{"gate": "a.b <= 1", "passed": True, "reason": "0 against 1"}],
}
FIGURES = ("README.md", "gates.json", "metrics.json")
PIPELINE = {
    "stages": {
        "package": {
            "cmd": "python build.py",
            "deps": ["build.py", "content.txt"],
            "outs": ["packages/cpu"],
        },
        "evaluate": {
            "cmd": "python measure.py",
            "deps": ["measure.py", "measured.json", "content.txt"],
            "outs": [
                {path: {"cache": False}}
                for path in (*(f"reports/evaluate/cpu/{name}" for name in FIGURES), "reports/machine")
            ],
        },
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
        ("measure.py", MEASURE),
        ("measured.json", json.dumps(MEASURED)),
        ("dvc.yaml", yaml.safe_dump(PIPELINE)),
    ):
        (project.folder / name).write_text(text, encoding="utf-8")
    for name in ("params.yaml", "requirements.lock"):
        shutil.copyfile(ROOT / name, project.folder / name)
    params = project.folder / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("    data/*: mit", '    "*": mit'), encoding="utf-8")
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
    """Build, measure, release and commit a package with another content."""
    (project.folder / "content.txt").write_text(content, encoding="utf-8")
    project.run("dvc", "repro", "--quiet")
    project.commit()
    release_again(project)


def measure(project: Project, **figures: object) -> None:
    """Measure the package anew, as on another machine, and commit that."""
    (project.folder / "measured.json").write_text(json.dumps(MEASURED | figures), encoding="utf-8")
    project.run("dvc", "repro", "--quiet")
    project.commit()


def release_again(project: Project) -> None:
    """Release what is built and measured, and commit that."""
    result = run(project, "release")
    assert result.returncode == 0, result.stderr
    project.commit()


def change_unseen(project: Project, name: str) -> None:
    """Change a byte of a file, but neither its size nor its times, after DVC has seen it."""
    project.run("dvc", "status", "--quiet")
    path = project.folder / name
    status, content = path.stat(), path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    project.run("dvc", "status", "--quiet")


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
