"""The registry of tags, asked without DVC; test_publish.py does what it does for a project."""

import subprocess
from pathlib import Path

import pytest

from press.core import shell
from press.core.errors import UserError
from press.release.git import GitRegistry
from press.release.package import Package
from press.release.settings import Git

pytestmark = pytest.mark.integration
PACKAGE = Package(Path("releases/cpu"), {}, {})


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True)


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git repository with a commit of a release."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("NAME", "test"), ("EMAIL", "test@example.com")):
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    Path("releases").mkdir()
    Path("releases/cpu.dvc").touch()
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "a release")


def registry(artifact: str = "olive-press", version: str = "1.0.0") -> GitRegistry:
    return GitRegistry(Git(artifact=artifact, version=version, remote="origin"), 10)


@pytest.mark.parametrize(
    ("artifact", "version"),
    [("olive-press", "1.0.0-x.lock"), ("olive-press-", "1.0.0")],
)
def test_what_cannot_be_a_tag_is_refused_before_anything_is_sent(artifact, version):
    registry().check(PACKAGE)
    with pytest.raises(UserError, match=rf"^{artifact}@v{version} cannot be a tag: publish\.git\.artifact must end"):
        registry(artifact, version).check(PACKAGE)


def test_a_version_that_is_tagged_just_then_is_a_sentence(monkeypatch):
    git("tag", "--annotate", "--message", "x", "olive-press@v1.0.0")
    monkeypatch.setattr(Package, "digest", "0" * 64)
    monkeypatch.setattr(Package, "figures", "")
    with pytest.raises(UserError, match=r"^the version could not be tagged: "):
        registry().register(PACKAGE)
    with pytest.raises(UserError, match=r"^prod could not be given: "):
        registry().promote("2.0.0", "prod")


def test_a_tag_that_never_left_gives_way_to_that_of_the_git_remote(tmp_path):
    origin = tmp_path.parent / f"{tmp_path.name}-origin.git"
    git("init", "--quiet", "--bare", str(origin))
    git("remote", "add", "origin", str(origin))
    tag = "olive-press@v1.0.0"
    for letter in "ab":
        git("tag", "--annotate", "--force", "--message", f"x\n\nManifest-SHA256: {letter * 64}", tag)
        if letter == "a":
            git("push", "--quiet", "origin", tag)
    assert [each.digest for each in registry().versions()] == ["a" * 64]


def test_a_git_remote_that_does_not_answer_is_given_up(monkeypatch):
    place = registry()
    asked = []

    def run(*command: str, seconds: float) -> shell.Ended:
        asked.append((command, seconds))
        return shell.Ended(None, "", "no end after 10 s", late=True)

    monkeypatch.setattr(shell, "run", run)
    place.remote = "origin"
    with pytest.raises(UserError, match=r"^`git fetch` failed: no end after 10 s; check the network, then run this"):
        place.versions()
    assert asked[0][1] == 10
