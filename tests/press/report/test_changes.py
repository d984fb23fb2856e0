"""What reran since a revision, by what dvc.lock says."""

import shutil
from pathlib import Path

import pytest

from press.core.errors import UserError
from press.report import __main__ as command
from press.report import changes
from press.report.changes import State

pytestmark = pytest.mark.integration


def test_what_reran_is_what_the_lock_says_since_a_revision(own: Path):
    names = ["fetch", "quantize", "capture@cpu", "evaluate@cpu", "package@cpu"]
    source = changes.source(None)
    assert source.lock_committed
    states = {change.stage: change.state for change in changes.compare(source.base, names)}
    assert [states[name] for name in names] == [
        State.UNCHANGED,
        State.CHANGED,
        State.SAME,
        State.MISSING,
        State.UNCHANGED,
    ]
    # What is not committed is newer than the last commit.
    lock = Path("dvc.lock")
    lock.write_text(lock.read_text().replace("group_size: 128", "group_size: 64", 1))
    newer = changes.source(None)
    assert not newer.lock_committed
    assert newer.base == source.commit
    assert changes.compare(newer.base, ["quantize"])[0] == changes.Change(
        "quantize", State.SAME, ("quantize.group_size",)
    )
    assert changes.source("HEAD~1").base == source.base


def test_outside_of_git_all_is_new(own: Path):
    shutil.rmtree(".git")
    Path(".dvc/config").write_text("[core]\n    no_scm = True\n")
    assert changes.source(None) == changes.Source("", None, False)
    html, _ = command.report("cpu", None)
    assert "There is no earlier dvc.lock to compare with" in html.read_text(encoding="utf-8")
    with pytest.raises(UserError, match="needs a git repository"):
        command.report("cpu", "HEAD")
