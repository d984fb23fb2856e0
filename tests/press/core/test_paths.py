"""What is of the project, and what only looks like it."""

from pathlib import Path

import pytest

from press.core import paths

DIGEST = "files/md5/ab/" + "0" * 30


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, beside which there are other things."""
    for name in ("project/data", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "elsewhere/secret.jsonl").touch()
    (tmp_path / "elsewhere" / DIGEST).parent.mkdir(parents=True)
    (tmp_path / "elsewhere" / DIGEST).touch()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.mark.parametrize("path", ["data/new.jsonl", "data", "./data/x", "."])
def test_what_lies_in_the_project_is_inside(path):
    assert paths.outside(Path(path)) is None


@pytest.mark.parametrize("path", ["../elsewhere/secret.jsonl", "data/../../elsewhere", "data/../data/x", "/etc/shadow"])
def test_a_path_that_leaves_the_project_is_outside_and_so_is_one_that_only_this_machine_has(path, project):
    assert paths.outside(Path(path)) == (project / path).resolve()
    assert paths.outside(project / "data/x") == project / "data/x"


def test_a_link_is_followed_and_so_is_one_on_the_way(tmp_path):
    Path("data/link.jsonl").symlink_to("../../elsewhere/secret.jsonl")
    Path("data/again.jsonl").symlink_to("link.jsonl")
    Path("more").symlink_to("../elsewhere")
    Path("data/mine.jsonl").symlink_to("../own.jsonl")
    secret = tmp_path / "elsewhere/secret.jsonl"
    for path in ("data/link.jsonl", "data/again.jsonl", "more/secret.jsonl"):
        assert paths.outside(Path(path)) == secret
    assert paths.outside(Path("data/mine.jsonl")) is None


def test_a_link_into_dvc_s_cache_is_the_file_that_dvc_put_there():
    Path("data/kept.jsonl").symlink_to(f"../../elsewhere/{DIGEST}")
    assert paths.outside(Path("data/kept.jsonl")) is None
