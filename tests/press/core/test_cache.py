"""What is in DVC's cache is copied into the workspace, or the pipeline does not begin."""

from pathlib import Path

import pytest
from projects import Project, assert_sentence

from press import doctor
from press.core import cache
from press.core.errors import UserError

pytestmark = pytest.mark.integration


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write DVC's configuration of a project, and go there."""
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    return lambda text: (tmp_path / ".dvc/config").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("types", ["", "type = copy", "type = reflink", "type = reflink,copy"])
def test_files_of_their_own_are_taken(configured, types):
    configured(f"[cache]\n    {types}\n")
    cache.check_links()


@pytest.mark.parametrize("types", ["symlink", "hardlink", "reflink,hardlink,copy", "hardlink,symlink"])
def test_links_are_refused_with_what_to_do(configured, types):
    configured(f"[cache]\n    type = {types}\n")
    with pytest.raises(
        UserError, match=r"^cache\.type .* has (sym|hard)link.*`dvc config --local cache\.type reflink,copy`"
    ):
        cache.check_links()


def test_a_broken_configuration_is_a_sentence(configured):
    configured("[cache\n")
    with pytest.raises(UserError, match=r"^DVC's configuration cannot be read: "):
        cache.check_links()


@pytest.mark.parametrize("kind", ["symlink", "hardlink"])
def test_the_project_s_own_setting_comes_before_the_user_s(hollow_copy: Project, tmp_path, kind):
    project = hollow_copy
    for name in ("XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        (tmp_path / name / "dvc").mkdir(parents=True)
        (tmp_path / name / "dvc/config").write_text(f"[cache]\n    type = {kind}\n", encoding="utf-8")
        project.environment[name] = str(tmp_path / name)
    project.edit("params.yaml", "max_steps: 4", "max_steps: 5")
    project.run("dvc", "repro")
    assert links(project) == []


@pytest.mark.parametrize("kind", ["symlink", "hardlink"])
def test_links_are_refused_before_anything_runs_and_taken_back_by_what_the_sentence_says(
    hollow_copy: Project, monkeypatch, kind
):
    project = hollow_copy
    project.run("dvc", "config", "--local", "cache.type", kind)
    project.run("dvc", "checkout", "--relink")
    assert links(project)
    assert_sentence(project.in_process("check"), f"cache.type in DVC's configuration has {kind}")
    monkeypatch.chdir(project.folder)
    (row,) = doctor.examine("DVC cache", doctor.CHECKS["DVC cache"])
    assert (row.verdict, row.advice.startswith("run `dvc config --local")) == (doctor.WRONG, True)
    project.run("dvc", "config", "--local", "cache.type", "reflink,copy")
    project.run("dvc", "checkout", "--relink")
    assert links(project) == []
    assert project.run("dvc", "status", "--json").stdout.strip() == "{}"


def links(project: Project) -> list[Path]:
    """Return the outputs that are links of either kind."""
    outs = [path for name in ("models", "packages", "prepared") for path in (project.folder / name).rglob("*")]
    return [path for path in outs if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1)]
