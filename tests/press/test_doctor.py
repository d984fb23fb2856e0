"""The doctor finds what is wrong, says what to do, and never fails itself."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from projects import ROOT, Project

from press import doctor
from press.core import machine, paths

pytestmark = pytest.mark.integration


@pytest.fixture
def project(default_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the project, and the working folder in it."""
    result = default_project.copy_to(tmp_path / "project")
    monkeypatch.chdir(result.folder)
    return result


def rows(*checks: str) -> dict[str, doctor.Row]:
    return {row.check: row for name in checks for row in doctor.examine(name, doctor.CHECKS[name])}


def test_all_is_said_to_be_fine_where_it_is(project):
    found = rows("Python", "packages", "requirements", "CPU", "providers", "params.yaml", "git", "remote")
    assert {row.verdict for row in found.values()} <= {doctor.OK, doctor.NOTE}
    for name in ("Python", "packages", "requirements", "target cpu", "git"):
        assert found[name].verdict == doctor.OK, found[name]
    assert "x86_64" in found["CPU"].found or "aarch64" in found["CPU"].found


@pytest.mark.parametrize(
    ("file", "old", "new", "check", "part"),
    [
        ("requirements.lock", "pytest==", "pytest==0.", "packages", "pytest is"),
        ("requirements.lock", "accelerate==", "<<<<<<< HEAD\naccelerate==", "packages", "('<<<<<<< HEAD')"),
        ("requirements.txt", "pytest==", "pytest==0.", "requirements", "pytest==0."),
        ("requirements-tasks.txt", "lm-eval==", "lm-eval==0.", "requirements", "lm-eval==0."),
        ("pyproject.toml", ">=3.11,<3.14", ">=3.99", "Python", "(/"),
        ("params.yaml", "seed: 42", "seed: x", "params.yaml", "seed is 'x'"),
        ("params.yaml", "data/travel.jsonl", "data/none.jsonl", "params.yaml", "data/none.jsonl, which is neither a"),
        ("params.yaml", "package.bytes <= 160e6", "package.bytes == 160e6", "params.yaml", "must compare by"),
        (".dvc/config", "[core]", "[core", "pipeline", "onfig"),
        ("dvc.yaml", "stages:\n", "stages:\n<<<<<<< HEAD\n", "pipeline", "'./dvc.yaml' is invalid"),
    ],
)
def test_what_is_wrong_is_found_with_what_to_do(project, file, old, new, check, part):
    project.edit(file, old, new)
    row = rows(check)[check]
    assert row.verdict == doctor.WRONG
    assert part in row.found
    assert row.advice


def test_a_lock_with_a_merge_conflict_and_a_damaged_rwlock_are_named(project):
    (project.folder / ".dvc/tmp").mkdir(exist_ok=True)
    (project.folder / ".dvc/tmp/rwlock").touch()
    assert rows("pipeline")["pipeline"].found == ".dvc/tmp/rwlock is damaged"
    (project.folder / "dvc.lock").write_text("schema: '2.0'\nstages:\n<<<<<<< HEAD\n  a: {cmd: x}\n")
    assert "dvc.lock has a merge conflict in line 3" in rows("pipeline")["pipeline"].found


def test_a_changed_file_and_a_stale_pipeline_are_notes(project):
    (project.folder / "new.txt").touch()
    assert rows("git")["git"].found.endswith("1 files changed")
    row = rows("pipeline")["pipeline"]
    assert (row.verdict, row.found.startswith("not up to date: check, fetch")) == (doctor.NOTE, True)


def test_outside_of_git_it_says_so(project, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    assert "not a git repository" in rows("git")["git"].found


@pytest.mark.parametrize(
    ("url", "verdict", "part"),
    [
        ("", doctor.NOTE, "none"),
        ("../storage", doctor.OK, ", still empty"),
        ("ssh://127.0.0.1:1/storage", doctor.NOTE, ""),
    ],
)
def test_a_remote_is_reached_or_not(project, url, verdict, part):
    words = ["add", "--force", "--default", "storage", url] if url else ["remove", "storage"]
    project.run("dvc", "remote", *words)
    row = rows("remote")["remote"]
    assert row.verdict == verdict, row
    assert part in row.found


def test_a_password_in_the_remote_s_address_is_not_shown(project, monkeypatch, capsys):
    project.run("dvc", "remote", "modify", "storage", "url", "https://me:secret@127.0.0.1:9/x?token=secret")
    monkeypatch.setattr(doctor, "CHECKS", {"remote": doctor.remote})
    doctor.main()
    shown = capsys.readouterr().out
    assert "127.0.0.1" in shown
    assert "secret" not in shown


def test_a_remote_that_is_silent_is_given_up(project, monkeypatch):
    monkeypatch.setattr(doctor, "REMOTE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "REMOTE_SECONDS", 0.5)
    assert rows("remote")["remote"].found == "no answer in 0.5 s"


def test_too_little_disk_and_memory_are_found(project, monkeypatch):
    monkeypatch.setattr(doctor, "DISK", 10**18)
    monkeypatch.setattr(doctor, "MEMORY", 10**18)
    assert {row.verdict for row in rows("disk", "memory").values()} == {doctor.WRONG}


def test_memory_is_told_where_there_is_no_meminfo(project, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2.5e9))
    assert rows("memory")["memory"].found == "2.5 GB available"


def test_another_class_of_machine_and_a_missing_provider_are_notes(project):
    project.edit("params.yaml", "device: cpu  ", "device: gpu  ")
    project.edit("params.yaml", "precision: int8", "precision: int4")
    project.edit("params.yaml", "provider: CPUExecutionProvider", "provider: DmlExecutionProvider")
    recorded = project.folder / paths.MACHINES / "capture/cpu.json"
    recorded.parent.mkdir(parents=True, exist_ok=True)
    recorded.write_text(json.dumps(machine.this() | {"vendor": "other"}), encoding="utf-8")
    found = rows("CPU", "providers")
    assert "capture/cpu" in found["machine class"].found
    assert "no DmlExecutionProvider" in found["target cpu"].found
    assert {found[name].verdict for name in ("machine class", "target cpu")} == {doctor.NOTE}


def test_without_any_package_it_still_answers(project):
    """With an interpreter that sees the standard library alone."""
    command = [
        sys.executable,
        "-S",
        "-c",
        "import sys; sys.path.insert(0, '.'); from press import doctor; doctor.main()",
    ]
    result = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert "packages      packaging cannot be imported" in result.stdout
    assert result.stdout.count("run `make install`") >= 5


def test_it_exits_with_1_if_something_is_wrong(project):
    command = [sys.executable, "-m", "press.doctor"]
    project.edit("params.yaml", "seed: 42", "seed: x")
    result = project.run(*command, check=False)
    assert (result.returncode, result.stderr) == (1, "")
    assert "WRONG  params.yaml" in result.stdout
    assert "→ mend what it names" in result.stdout


def test_it_knows_the_project_s_real_figures():
    assert doctor.GB < doctor.MEMORY < doctor.DISK
    assert (ROOT / "pyproject.toml").exists()
