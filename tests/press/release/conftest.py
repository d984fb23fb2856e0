"""A small project with a package and its figures, as the pipeline would build them, with a git remote of its own."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from projects import ROOT, Project, copy_tree, once

from .container_registry import REPOSITORY, ContainerRegistry

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
# Of the project's lock. A bill of materials of all takes half a second, and each release is made and checked with one:
# test_bom.py has them all.
LOCKED = ("accelerate", "numpy", "sigstore-models")
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
def released(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project, built, released and committed, with a git remote and a folder as DVC remote beside it, which has
    nothing yet. Copy it to change it.
    """
    return project_in(once(tmp_path_factory, "released", build))


def project_in(place: Path) -> Project:
    """Return the project of a folder, in which all lies that it writes to."""
    project = Project(place / "project")
    # A key of the machine's user must not sign what tests make.
    project.environment |= {"PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(place / "config")}
    return project


def build(place: Path) -> None:
    project = project_in(place)
    project.folder.mkdir()
    for name, text in (
        ("build.py", BUILD),
        ("measure.py", MEASURE),
        ("measured.json", json.dumps(MEASURED)),
        ("dvc.yaml", yaml.safe_dump(PIPELINE)),
    ):
        (project.folder / name).write_text(text, encoding="utf-8")
    (project.folder / "requirements.lock").write_text(locked(), encoding="utf-8")
    shutil.copyfile(ROOT / "params.yaml", project.folder / "params.yaml")
    params = project.folder / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("    data/*: mit", '    "*": mit'), encoding="utf-8")
    project.run("git", "init", "--quiet")
    for key, value in (("name", "test"), ("email", "test@example.com")):
        project.run("git", "config", f"user.{key}", value)
    project.run("dvc", "init", "--quiet")
    project.run("dvc", "remote", "add", "--quiet", "--default", "storage", "../storage")
    rebuild(project, "the weights\n")
    # Relative, so that they are a copy's own.
    project.run("git", "init", "--quiet", "--bare", "../origin.git")
    project.run("git", "remote", "add", "origin", "../origin.git")
    project.run("git", "push", "--quiet", "origin", "HEAD")


def locked() -> str:
    """Return the blocks of a few packages of the project's lock."""
    blocks = re.split(r"^(?=\w)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return "".join(block for block in blocks if block.partition("==")[0] in LOCKED)


@pytest.fixture(scope="session")
def published_once(released: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after it was published as version 0.1.0. Copy it to change it."""

    def publish(place: Path) -> None:
        result = run(with_remotes(released, place), "publish")
        assert "version 0.1.0 is published" in result.stdout, result.stderr

    return project_in(once(tmp_path_factory, "published", publish))


@pytest.fixture
def published(published_once: Project, tmp_path: Path) -> Project:
    """A copy of the published project, with remotes of its own beside it."""
    return with_remotes(published_once, tmp_path)


@pytest.fixture
def release(released: Project, tmp_path: Path) -> Project:
    """A copy of the project, with remotes of its own beside it."""
    return with_remotes(released, tmp_path)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerRegistry]:
    with ContainerRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def pushed_once(released: Project, server: ContainerRegistry, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project that publishes to the registry, signed; the DVC remote has all outputs already. Copy it."""
    result = with_remotes(released, tmp_path_factory.mktemp("pushed"))
    result.edit("params.yaml", "registry: git ", "registry: oci ")
    result.edit("params.yaml", "registry: ''", f"registry: '{server.host}'")
    result.edit("params.yaml", "repository: ''", f"repository: {REPOSITORY}")
    assert result.module("press.release.signature").returncode == 0
    result.commit()
    release_again(result)
    result.run("dvc", "push", "--quiet")
    return result


@pytest.fixture(scope="session")
def there(pushed_once: Project, server: ContainerRegistry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the registry holds after the project was published to it as version 0.1.0."""
    server.empty()
    project = with_remotes(pushed_once, tmp_path_factory.mktemp("published"))
    project.environment |= server.environment
    result = run(project, "publish")
    assert "version 0.1.0 is published" in result.stdout, result.stderr
    return Path(shutil.copytree(server.root, tmp_path_factory.mktemp("held") / "root"))


@pytest.fixture
def empty(server: ContainerRegistry) -> ContainerRegistry:
    """A registry that has nothing."""
    server.empty()
    return server


@pytest.fixture
def holding(there: Path, empty: ContainerRegistry) -> ContainerRegistry:
    """A registry that has version 0.1.0."""
    shutil.copytree(there, empty.root)
    return empty


def with_remotes(project: Project, place: Path) -> Project:
    """Copy a project with all that lies beside it: its remotes, and the user's configuration."""
    copy_tree(project.folder.parent, place)
    return project_in(place)


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
    """Run `python -m press.release.storage` in this process."""
    return project.module("press.release.storage", *words)


def run(project: Project, *words: str) -> subprocess.CompletedProcess:
    """Run `python -m press.release` in this process."""
    return project.module("press.release", *words)
