"""A fetched package goes to a new folder that nobody else fills, or is refused before anything is asked of a server."""

import re
from pathlib import Path

import pytest

from press.core.errors import UserError
from press.release import package


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (".git", ".dvc", "releases", "elsewhere"):
        (tmp_path / "project" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.mark.parametrize("name", ["model", "elsewhere/a/b", "../beside", "release", "my.git/x"])
def test_a_new_folder_is_taken_and_not_made_yet(name):
    package.check_new(Path(name))
    assert not Path(name).exists()


@pytest.mark.parametrize("name", ["elsewhere", ".", "link"])
def test_what_is_there_is_refused(project, name):
    (project / "link").symlink_to("nowhere")
    with pytest.raises(UserError, match=rf"^{re.escape(name)} exists: name a new folder$"):
        package.check_new(Path(name))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (".git/x", ".git"),
        (".GIT/x", ".GIT"),
        ("elsewhere/.git/hooks/x", ".git"),
        (".dvc/cache/x", ".dvc"),
        ("releases/new", "releases"),
        ("releases", "releases"),
        ("elsewhere/../models/x", "models"),
        ("packages/x/y", "packages"),
        ("downloads/x", "downloads"),
        ("prepared/x", "prepared"),
        ("reports/x", "reports"),
        ("inside/x", ".git"),
    ],
)
def test_a_folder_among_what_others_fill_is_refused(project, name, kept):
    (project / "inside").symlink_to(".git")
    (project / "releases").rmdir()
    with pytest.raises(
        UserError, match=rf"^{re.escape(name)} is in {re.escape(kept)}, which git, DVC or the pipeline fill"
    ):
        package.check_new(Path(name))


@pytest.mark.parametrize("name", ["/proc/x", "/proc/x/y", "/dev/null/x", "file/x", "x" * 250, f"{'x' * 256}/y"])
def test_a_folder_that_cannot_be_made_is_refused(project, name):
    (project / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=rf"^{name} cannot be made \(.*\): name a folder that you may write to$"):
        package.check_new(Path(name))
