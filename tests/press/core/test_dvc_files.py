"""What DVC left behind is read, or refused in a sentence."""

from pathlib import Path

import pytest
import yaml
from projects import Project

from press.core import dvc_files
from press.core.errors import UserError


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "stages: []",
        "stages: {a: 1}",
        "stages: {a: {outs: 1}}",
        "stages: {a: {deps: [{path: [x]}]}}",
        "a: b: c",
        "a: !x 1",
        "[" * 5000,
    ],
)
def test_what_is_no_lock_is_refused_with_what_to_do(text):
    with pytest.raises(UserError, match=r"^dvc\.lock is no lock file of DVC: .*`git restore dvc\.lock`"):
        dvc_files.stages(text)


def test_a_merge_conflict_is_named_by_its_line():
    text = "schema: '2.0'\nstages:\n<<<<<<< HEAD\n  a:\n    cmd: x\n=======\n>>>>>>> other\n"
    with pytest.raises(UserError, match=r"^dvc\.lock has a merge conflict in line 3: "):
        dvc_files.stages(text)


def test_a_lock_without_stages_records_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dvc_files.recorded() == {}
    Path("dvc.lock").write_text("schema: '2.0'\n")
    assert dvc_files.recorded() == {}


def test_folders_in_the_places_of_files_are_a_sentence_or_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").mkdir()
    with pytest.raises(UserError, match=r"^dvc\.lock cannot be read \(Is a directory\): it must be a file$"):
        dvc_files.recorded()
    dvc_files.RWLOCK.mkdir(parents=True)
    dvc_files.remove_unreadable_rwlock()
    assert not dvc_files.RWLOCK.exists()


@pytest.mark.parametrize(
    ("content", "stays"), [("", False), ("{", False), ("[]", False), ("{}", True), ('{"write": {}}', True)]
)
def test_an_rwlock_that_says_nothing_is_removed(tmp_path, monkeypatch, content, stays):
    monkeypatch.chdir(tmp_path)
    dvc_files.remove_unreadable_rwlock()
    dvc_files.RWLOCK.parent.mkdir(parents=True)
    dvc_files.RWLOCK.write_text(content)
    dvc_files.remove_unreadable_rwlock()
    assert dvc_files.RWLOCK.exists() == stays


@pytest.mark.integration
def test_a_digest_is_that_of_dvc_s_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    for name in (
        "a.txt",
        "b/z.txt",
        "b/a-é.txt",
        "b/a/c.txt",
        "b/a/.x.partial/d.txt",
        "b/__pycache__/e.pyc",
        "b/a.b/f",
    ):
        path = tmp_path / "made" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\r\n", encoding="utf-8")
    Path(".dvcignore").write_text("# Leftovers.\n.*.partial\n__pycache__\n", encoding="utf-8")
    stage = {"cmd": "true", "outs": [{"made/a.txt": {"persist": True}}, {"made/b": {"persist": True}}]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"make": stage}}), encoding="utf-8")
    project.run("dvc", "repro")
    recorded = dvc_files.outputs(dvc_files.recorded()["make"])
    assert recorded == {path: dvc_files.digest(path) for path in (Path("made/a.txt"), Path("made/b"))}
