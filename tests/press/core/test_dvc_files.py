"""What DVC left behind is read, or refused in a sentence."""

from pathlib import Path

import pytest

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
