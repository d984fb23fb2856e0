"""What DVC could not keep for want of space is an error, and is kept by the next run without being built again."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from projects import ROOT, Project, assert_sentence

pytestmark = pytest.mark.integration
COMMAND = "mkdir -p out && echo x >> ../runs && python -c \"open('out/x', 'wb').write(bytes(range(256)) * 40_000)\""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a stage that makes 10 MB and counts its runs."""
    result = Project(tmp_path / "project")
    result.folder.mkdir()
    result.environment["PYTHONPATH"] = str(ROOT)
    stages = {"train": {"cmd": COMMAND, "deps": ["data"], "outs": [{"out": {"persist": True}}]}}
    (result.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (result.folder / "data").write_text("data")
    result.run("dvc", "init", "--quiet", "--no-scm")
    return result


def repro(project: Project) -> subprocess.CompletedProcess:
    return project.run(sys.executable, "-m", "press.repro", check=False)


def runs(project: Project) -> int:
    path = project.folder.parent / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_an_output_for_which_the_cache_has_no_room_is_an_error_and_is_not_built_twice(project, small_disk):
    project.run("dvc", "cache", "dir", str(small_disk))
    assert_sentence(repro(project), "train: built, but DVC's cache has no room", "run this again")
    assert_sentence(repro(project), "train: built, but DVC's cache has no room")
    assert runs(project) == 1
    project.run("dvc", "cache", "dir", str(small_disk.parent / "cache"))
    result = repro(project)
    assert result.returncode == 0, result.stderr
    assert "putting into DVC's cache what is built already: train" in result.stdout
    assert "up to date" in project.run("dvc", "status").stdout
    assert runs(project) == 1


@pytest.mark.parametrize("name", ["data", "out"])
def test_what_is_not_what_dvc_recorded_is_built_again(project, name):
    assert repro(project).returncode == 0
    shutil.rmtree(project.folder / ".dvc/cache")
    path = project.folder / name
    path = path / "x" if path.is_dir() else path
    path.chmod(0o644)
    path.write_bytes(b"other")
    assert repro(project).returncode == 0
    assert runs(project) == 2
    assert (project.folder / "out/x").stat().st_size > 1_000_000


def test_a_stage_that_fails_gives_its_exit_code_and_an_empty_rwlock_does_not_matter(project):
    (project.folder / ".dvc/tmp").mkdir(exist_ok=True)
    (project.folder / ".dvc/tmp/rwlock").touch()
    assert repro(project).returncode == 0
    (project.folder / "data").unlink()
    result = repro(project)
    assert result.returncode == 255
    assert "data" in result.stderr
    assert "Traceback" not in result.stderr
