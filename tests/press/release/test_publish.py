"""A package is published once, whole, and comes back the same; what must not be published is refused."""

import fcntl
import re
import shutil
import sys

import pytest
from conftest import assert_sentence

from press.core import files
from press.release.publishing import LOCK

from .conftest import clone, rebuild, run

pytestmark = pytest.mark.integration


def tags(project) -> list[str]:
    return project.run("git", "tag", "--list").stdout.split()


def test_a_round_trip(release, tmp_path):
    result = run(release, "publish")
    assert result.returncode == 0, result.stderr
    assert "version 0.1.0 is published" in result.stdout
    other = clone(release, tmp_path / "clone")
    assert tags(other) == ["olive-press@v0.1.0"]
    assert run(other, "fetch", "--version", "0.1.0", "--to", "fetched").returncode == 0
    assert files.digests(other.folder / "fetched") == files.digests(release.folder / "releases/cpu")
    # What DVC alone fetches is the same.
    other.run("dvc", "artifacts", "get", ".", "olive-press", "--rev", "v0.1.0", "--out", "gotten")
    assert files.digests(other.folder / "gotten") == files.digests(release.folder / "releases/cpu")


def test_stages_are_given_and_taken(release, tmp_path):
    run(release, "publish")
    assert run(release, "promote", "--version", "0.1.0", "--stage", "prod").returncode == 0
    rebuild(release, "better weights\n")
    release.edit("params.yaml", "version: 0.1.0", "version: 0.2.0")
    release.commit()
    assert run(release, "publish").returncode == 0
    for stage in ("staging", "prod", "prod"):
        assert run(release, "promote", "--version", "v0.2.0", "--stage", stage).returncode == 0
    assert len([tag for tag in tags(release) if "#prod#" in tag]) == 2
    other = clone(release, tmp_path / "clone")
    lines = run(other, "versions").stdout.splitlines()
    assert lines[0].split() == ["version", "stage", "digest", "metrics", "date"]
    assert [line.split()[:2] for line in lines[1:]] == [["0.1.0", "–"], ["0.2.0", "prod,"]]
    digest = files.sha256(release.folder / "packages/cpu/manifest.json")
    assert f"prod, staging  {digest[:12]}  travel 1.500" in lines[2]
    assert run(other, "fetch", "--stage", "prod", "--to", "fetched").returncode == 0
    assert (other.folder / "fetched/model.onnx").read_text() == "better weights\n"


def test_a_dry_run_says_what_would_be_done_and_does_nothing(release):
    result = run(release, "publish", "--dry-run")
    assert result.returncode == 0, result.stderr
    head = release.run("git", "rev-parse", "--short", "HEAD").stdout.strip()
    assert f"the git tag olive-press@v0.1.0 at {head}, pushed to origin" in result.stdout
    assert re.search(r"storage at .*: 2 outputs of [\d.]+ MB", result.stdout)
    assert tags(release) == []
    assert not (release.folder.parent / "storage").exists()


def test_the_same_content_again_is_a_success(release):
    run(release, "publish")
    result = run(release, "publish")
    assert result.returncode == 0
    assert "version 0.1.0 is already published with this content" in result.stdout
    assert tags(release) == ["olive-press@v0.1.0"]


def test_other_content_under_the_same_version_is_refused(release):
    run(release, "publish")
    rebuild(release, "other weights\n")
    assert_sentence(run(release, "publish"), "already published with another content", "raise publish.git.version")


def test_a_version_that_was_published_elsewhere_is_known(release, tmp_path):
    other = clone(release, tmp_path / "clone")
    other.run("git", "config", "user.name", "test")
    other.run("git", "config", "user.email", "test@example.com")
    run(release, "publish")
    other.run("dvc", "pull", "--quiet")
    rebuild(other, "other weights\n")
    assert_sentence(run(other, "publish"), "already published with another content")


def test_a_publication_killed_before_its_tag_was_pushed_is_finished(release, tmp_path):
    origin = release.folder.parent / "origin.git"
    run(release, "publish")
    shutil.rmtree(origin)
    release.run("git", "init", "--quiet", "--bare", str(origin))
    assert "already published" in run(release, "publish").stdout
    assert tags(clone(release, tmp_path / "clone")) == ["olive-press@v0.1.0"]


def test_without_a_git_remote_the_tag_stays_here(release):
    release.run("git", "remote", "remove", "origin")
    result = run(release, "publish")
    assert result.returncode == 0, result.stderr
    assert "in this repository alone" in result.stdout
    assert tags(release) == ["olive-press@v0.1.0"]


def test_a_git_remote_that_is_gone_is_a_sentence(release):
    shutil.rmtree(release.folder.parent / "origin.git")
    assert_sentence(run(release, "publish"), "`git fetch` failed", "run this again")
    assert tags(release) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "parts"),
    [
        ("content.txt", "weights", "weight", ["content.txt", "not committed"]),
        ("params.yaml", "version: 0.1.0", "version: one", ["publish.git.version is 'one'", "a version such as 1.2.3"]),
        ("params.yaml", "artifact: olive-press", "artifact: other", ["no artifact 'other', only olive-press"]),
        (
            "params.yaml",
            "cpu                  # packages",
            "gpu  # packages",
            ["publish.target is 'gpu'", "must be one of cpu"],
        ),
        ("params.yaml", "registry: git ", "registry: svn ", ["publish.registry is 'svn'", "'git' or 'azureml'"]),
        ("params.yaml", "publish:", "published:", ["published is not a known key"]),
        (
            "dvc.yaml",
            "path: releases/cpu",
            "path: releases/other",
            ["dvc.yaml says that olive-press is releases/other"],
        ),
        ("build.py", "text * 2", "text * 3", ["package not up to date", "`dvc repro`"]),
        ("gates.json", "true", "false", ["did not pass a.b <= 1 (0 against 1)"]),
        ("gates.json", '[{"gate": "a.b <= 1", "passed": true, "reason": "0 against 1"}]', "[]", ["no quality gates"]),
    ],
)
def test_what_must_not_be_published_is_refused(release, file, old, new, parts):
    release.edit(file, old, new)
    if file == "gates.json":
        release.run("dvc", "repro", "--quiet")
    if file != "content.txt":
        release.commit()
    assert_sentence(run(release, "publish"), *parts)
    assert tags(release) == []
    assert not (release.folder.parent / "storage").exists()


@pytest.mark.parametrize("name", ["model.onnx", "adapters/travel/adapter.onnx_adapter"])
def test_a_changed_package_is_refused(release, name):
    path = release.folder / "packages/cpu" / name
    path.unlink()
    path.write_bytes(b"x")
    assert_sentence(run(release, "publish"), "not up to date")
    release.run("dvc", "commit", "--force")
    release.commit()
    assert_sentence(run(release, "publish"), f"packages/cpu/{name} is damaged")


def test_two_publications_at_once_are_one(release):
    lock = release.folder / LOCK
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert_sentence(run(release, "publish"), "another process is publishing")
    assert run(release, "publish").returncode == 0


def test_a_version_that_does_not_exist_is_a_sentence_with_those_that_do(release):
    assert_sentence(run(release, "fetch", "--version", "1.0.0", "--to", "x"), "no version 1.0.0, and none at all yet")
    run(release, "publish")
    assert_sentence(run(release, "fetch", "--version", "9.9.9", "--to", "x"), "no version 9.9.9, only 0.1.0")
    assert_sentence(run(release, "fetch", "--stage", "prod", "--to", "x"), "no version that is prod, only 0.1.0")
    assert_sentence(run(release, "promote", "--version", "9.9.9", "--stage", "prod"), "no version 9.9.9")


def test_a_folder_that_exists_and_an_empty_storage_leave_everything_as_it_was(release, tmp_path):
    run(release, "publish")
    assert_sentence(run(release, "fetch", "--version", "0.1.0", "--to", "packages"), "packages exists")
    other = clone(release, tmp_path / "clone")
    shutil.rmtree(release.folder.parent / "storage")
    assert_sentence(run(other, "fetch", "--version", "0.1.0", "--to", "fetched"), "0.1.0 could not be fetched")
    assert not (other.folder / "fetched").exists()


def test_words_are_checked(release):
    result = release.run(
        sys.executable, "-m", "press.release", "promote", "--version", "1", "--stage", "x", check=False
    )
    assert result.returncode == 2
    assert "invalid choice: 'x'" in result.stderr
