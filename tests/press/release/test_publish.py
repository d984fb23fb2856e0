"""A package is published once, whole, and comes back the same; what must not be published is refused."""

import fcntl
import json
import re
import shutil
import sys

import pytest
from projects import assert_sentence

from press.core import files
from press.release.publishing import LOCK

from .conftest import FIGURES, MEASURED, change_unseen, clone, measure, rebuild, release_again, run, storage

pytestmark = pytest.mark.integration
TAG = "olive-press@v0.1.0"


def tags(project) -> list[str]:
    return project.run("git", "tag", "--list").stdout.split()


def test_a_round_trip(release, tmp_path):
    """In processes of their own."""
    program = (sys.executable, "-m", "press.release")
    assert "version 0.1.0 is published" in release.run(*program, "publish").stdout
    other = clone(release, tmp_path / "clone")
    assert tags(other) == ["olive-press@v0.1.0"]
    other.run(*program, "fetch", "--version", "0.1.0", "--to", "fetched")
    assert files.digests(other.folder / "fetched") == files.digests(release.folder / "releases/cpu")
    # What DVC alone fetches is the same.
    other.run("dvc", "artifacts", "get", ".", "olive-press", "--rev", "v0.1.0", "--out", "gotten")
    assert files.digests(other.folder / "gotten") == files.digests(release.folder / "releases/cpu")


def test_stages_are_given_and_taken(published, tmp_path):
    assert run(published, "promote", "--version", "0.1.0", "--stage", "prod").returncode == 0
    rebuild(published, "better weights\n")
    published.edit("params.yaml", "version: 0.1.0", "version: 0.2.0")
    published.commit()
    assert run(published, "publish").returncode == 0
    for stage in ("staging", "prod", "prod"):
        assert run(published, "promote", "--version", "v0.2.0", "--stage", stage).returncode == 0
    assert len([tag for tag in tags(published) if "#prod#" in tag]) == 2
    other = clone(published, tmp_path / "clone")
    lines = run(other, "versions").stdout.splitlines()
    assert lines[0].split() == ["version", "stage", "digest", "metrics", "date"]
    assert [line.split()[:2] for line in lines[1:]] == [["0.1.0", "–"], ["0.2.0", "prod,"]]
    digest = files.sha256(published.folder / "packages/cpu/manifest.json")
    assert f"prod, staging  {digest[:12]}  travel 1.500" in lines[2]
    assert run(other, "fetch", "--stage", "prod", "--to", "fetched").returncode == 0
    assert (other.folder / "fetched/model.onnx").read_text() == "better weights\n"


def test_a_dry_run_says_what_would_be_done_and_does_nothing(release):
    result = run(release, "publish", "--dry-run")
    assert result.returncode == 0, result.stderr
    head = release.run("git", "rev-parse", "--short", "HEAD").stdout.strip()
    assert f"the git tag olive-press@v0.1.0 at {head}, pushed to origin" in result.stdout
    assert re.search(r"storage at .*: 2 outputs of [\d.]+ kB", result.stdout)
    assert tags(release) == []
    assert not (release.folder.parent / "storage").exists()


def test_the_same_content_again_is_a_success(published):
    result = run(published, "publish")
    assert result.returncode == 0
    assert "version 0.1.0 is already published with this content" in result.stdout
    assert tags(published) == ["olive-press@v0.1.0"]


def test_other_figures_of_the_same_package_are_the_same_content_and_the_version_keeps_its_own(published, tmp_path):
    manifest = files.sha256(published.folder / "releases/cpu/manifest.json")
    before = files.digests(published.folder / "releases/cpu")
    measure(published, loss=1.25, vendor="GenuineIntel")
    release_again(published)
    here = files.digests(published.folder / "releases/cpu")
    assert here["manifest.json"] == manifest
    changed = {name for name in before if here[name] != before[name]}
    assert changed == {*FIGURES, "bom.cdx.json", "bom.spdx3.json", "provenance.json"}
    result = run(published, "publish")
    assert result.returncode == 0, result.stderr
    assert "version 0.1.0 is already published with this content; its figures stay: travel 1.500" in result.stdout
    assert tags(published) == ["olive-press@v0.1.0"]
    assert run(published, "fetch", "--version", "0.1.0", "--to", "fetched").returncode == 0
    assert files.digests(published.folder / "fetched") == before
    # The next version has the new figures.
    published.edit("params.yaml", "version: 0.1.0", "version: 0.1.1")
    published.commit()
    assert run(published, "publish").returncode == 0
    assert "travel 1.250" in run(clone(published, tmp_path / "clone"), "versions").stdout


def test_other_content_under_the_same_version_is_refused(published):
    rebuild(published, "other weights\n")
    assert_sentence(run(published, "publish"), "already published with another content", "raise publish.git.version")


def test_a_version_that_was_published_elsewhere_is_known(release, tmp_path):
    other = clone(release, tmp_path / "clone")
    other.run("git", "config", "user.name", "test")
    other.run("git", "config", "user.email", "test@example.com")
    run(release, "publish")
    other.run("dvc", "pull", "--quiet")
    rebuild(other, "other weights\n")
    assert_sentence(run(other, "publish"), "already published with another content")


def test_a_publication_killed_before_its_tag_was_pushed_is_finished(published, tmp_path):
    origin = published.folder.parent / "origin.git"
    shutil.rmtree(origin)
    published.run("git", "init", "--quiet", "--bare", str(origin))
    assert "already published" in run(published, "publish").stdout
    assert tags(clone(published, tmp_path / "clone")) == ["olive-press@v0.1.0"]


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
        ("params.yaml", "registry: git ", "registry: svn ", ["publish.registry is 'svn'", "'git', 'azureml' or 'oci'"]),
        ("params.yaml", "publish:", "published:", ["published is not a known key"]),
        (
            "dvc.yaml",
            "path: releases/cpu",
            "path: releases/other",
            ["dvc.yaml says that olive-press is releases/other"],
        ),
        ("build.py", "text * 2", "text * 3", ["package not up to date", "`dvc repro`"]),
        ("measured.json", "true", "false", ["did not pass a.b <= 1 (0 against 1)"]),
        ("measured.json", json.dumps(MEASURED["gates"]), "[]", ["no quality gates"]),
        (
            "measured.json",
            "1.5",
            "1.25",
            ["releases/cpu has other figures than reports/evaluate/cpu", "`make release`"],
        ),
    ],
)
def test_what_must_not_be_published_is_refused(release, file, old, new, parts):
    release.edit(file, old, new)
    if file == "measured.json":
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


@pytest.mark.parametrize(
    ("name", "verb", "parts"),
    [
        ("packages/cpu/model.onnx", "release", ["packages/cpu is not what dvc.lock names", "`make pull`"]),
        ("packages/cpu/model.onnx", "publish", ["packages/cpu is not what dvc.lock names", "--downstream package`"]),
        ("content.txt", "release", ["content.txt is not what dvc.lock names", "`touch`"]),
        ("releases/cpu/model.onnx", "publish", ["releases/cpu is not what releases/cpu.dvc names: `make release`"]),
    ],
)
def test_bytes_that_changed_under_the_same_time_are_refused(release, name, verb, parts):
    change_unseen(release, name)
    if name == "content.txt":
        release.run("git", "update-index", "--assume-unchanged", name)
    assert "up to date" in release.run("dvc", "status").stdout
    assert_sentence(run(release, verb), *parts)
    assert tags(release) == []


@pytest.mark.parametrize("verb", ["release", "publish"])
def test_a_lock_with_a_merge_conflict_is_a_sentence_and_an_empty_rwlock_does_not_matter(release, verb):
    (release.folder / ".dvc/tmp/rwlock").write_text("")
    assert run(release, verb, *(["--dry-run"] if verb == "publish" else [])).returncode == 0
    release.edit("dvc.lock", "stages:\n", "stages:\n<<<<<<< HEAD\n")
    release.commit()
    assert_sentence(run(release, verb), "dvc.lock has a merge conflict in line 3", "`git checkout --ours dvc.lock`")


def test_a_tampered_release_is_made_anew_by_make_release(release):
    before = files.digests(release.folder / "releases/cpu")
    change_unseen(release, "releases/cpu/provenance.json")
    release_again(release)
    assert files.digests(release.folder / "releases/cpu").keys() == before.keys()
    assert run(release, "publish").returncode == 0


@pytest.mark.parametrize("how", ["ignored", "removed"])
def test_a_release_whose_dvc_file_nobody_else_would_have_is_refused(release, how):
    if how == "ignored":
        release.run("git", "rm", "--quiet", "--cached", "releases/cpu.dvc")
        (release.folder / ".git/info/exclude").write_text("/releases/cpu.dvc\n")
    else:
        (release.folder / "releases/cpu.dvc").unlink()
    release.commit()
    assert_sentence(run(release, "publish"), "releases/cpu.dvc is not in the commit at HEAD", "`git add --force")
    assert tags(release) == []
    assert not (release.folder.parent / "storage").exists()


def test_without_a_git_identity_nothing_is_sent(release):
    for key in ("name", "email"):
        release.run("git", "config", "--unset", f"user.{key}")
    release.environment |= {"HOME": str(release.folder), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_COUNT": "1"}
    release.environment |= {"GIT_CONFIG_KEY_0": "user.useConfigOnly", "GIT_CONFIG_VALUE_0": "true"}
    assert_sentence(run(release, "publish"), "git does not know who you are", "`git config user.name NAME`")
    assert not (release.folder.parent / "storage").exists()
    # What git takes from elsewhere counts.
    release.environment |= {"GIT_COMMITTER_NAME": "somebody", "GIT_COMMITTER_EMAIL": "somebody@example.com"}
    assert run(release, "publish").returncode == 0
    assert "tagger somebody <somebody@example.com>" in release.run("git", "cat-file", "-p", TAG).stdout


def tag_elsewhere(release, tag: str, *words: str) -> None:
    """Put a tag on the git remote alone."""
    release.run("git", "tag", "--force", tag, *words)
    release.run("git", "push", "--quiet", "origin", f"refs/tags/{tag}")
    release.run("git", "tag", "--delete", tag)


def test_a_tag_of_that_name_that_is_no_version_is_refused_before_anything_is_sent(release):
    tag_elsewhere(release, TAG)
    assert_sentence(run(release, "publish"), f"{TAG} is a tag without a message", "raise publish.git.version")
    digest = files.sha256(release.folder / "packages/cpu/manifest.json")
    release.run("git", "push", "--quiet", "--delete", "origin", TAG)
    tag_elsewhere(release, TAG, "HEAD~1", "--annotate", "--message", f"A tag\n\nManifest-SHA256: {digest}")
    assert_sentence(run(release, "publish"), f"the tag {TAG} is at a commit that has no releases/cpu.dvc")
    assert not (release.folder.parent / "storage").exists()


def test_a_tag_with_our_digest_on_a_commit_with_another_release_is_not_published_already(release):
    digest = files.sha256(release.folder / "packages/cpu/manifest.json")
    release.run("git", "switch", "--quiet", "--create", "other")
    rebuild(release, "other weights\n")
    tag_elsewhere(release, TAG, "--annotate", "--message", f"A tag\n\nManifest-SHA256: {digest}")
    release.run("dvc", "push", "--quiet")
    release.run("git", "switch", "--quiet", "-")
    release.run("dvc", "checkout", "--quiet")
    assert_sentence(run(release, "publish"), "0.1.0 is not whole at the commit that its tag names (its commit holds")


@pytest.mark.parametrize("tag", ["olive-press#prod#1", "olive-press#prod"])
def test_a_stage_s_tag_without_its_version_is_none(release, tag):
    tag_elsewhere(release, tag, "HEAD~1", "--annotate", "--message", "a tag")
    assert run(release, "versions").stdout.splitlines() == ["version  stage  digest  metrics  date"]
    assert_sentence(run(release, "fetch", "--stage", "prod", "--to", "fetched"), "no version that is prod, and none")
    assert "version 0.1.0 is published" in run(release, "publish").stdout
    assert run(release, "promote", "--version", "0.1.0", "--stage", "prod").returncode == 0
    assert run(release, "fetch", "--stage", "prod", "--to", "fetched").returncode == 0


@pytest.mark.parametrize("turns", [("0.1.0", "0.2.0"), ("0.2.0", "0.1.0")])
def test_of_two_promotions_in_one_second_the_second_holds(published, turns):
    published.environment["GIT_COMMITTER_DATE"] = "2031-02-03T04:05:06+00:00"
    published.commit()
    published.run("git", "tag", "--annotate", "--message", "a version", "olive-press@v0.2.0")
    for turn, version in enumerate(turns, 1):
        words = ("--annotate", "--message", "a stage", f"olive-press#prod#{turn}", f"olive-press@v{version}^{{}}")
        published.run("git", "tag", *words)
    lines = run(published, "versions").stdout.splitlines()
    assert [line.split()[0] for line in lines if "prod" in line] == [turns[-1]]


def test_a_promotion_that_the_git_remote_refuses_leaves_nothing_and_a_stage_may_go_back(published):
    published.edit("params.yaml", "version: 0.1.0", "version: 0.2.0")
    published.commit()
    run(published, "publish")
    for version in ("0.1.0", "0.2.0"):
        assert run(published, "promote", "--version", version, "--stage", "prod").returncode == 0
    hook = published.folder.parent / "origin.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'not on a Friday' >&2\nexit 1\n")
    hook.chmod(0o755)
    before = tags(published)
    refused = run(published, "promote", "--version", "0.1.0", "--stage", "prod")
    assert_sentence(refused, "`git push` failed", "remote: not on a Friday", "[remote rejected] olive-press#prod#3")
    assert tags(published) == before
    hook.unlink()
    result = run(published, "promote", "--version", "0.1.0", "--stage", "prod")
    assert result.stdout == "version 0.1.0 is prod now\n", result.stderr
    assert {*tags(published)} - {*before} == {"olive-press#prod#3"}


def test_a_password_in_an_address_is_shown_nowhere(release):
    release.run("dvc", "remote", "modify", "storage", "url", "https://me:secret@127.0.0.1:9/x?token=secret")
    release.run("git", "remote", "set-url", "origin", "http://me:secret@127.0.0.1:9/x.git?token=secret")
    release.commit()
    change_unseen(release, "releases/cpu/provenance.json")
    assert run(release, "release").returncode == 0
    release.commit()
    shown = [run(release, "publish"), run(release, "versions"), storage(release, "push"), storage(release, "pull")]
    assert "127.0.0.1" in shown[0].stderr
    assert "secret" not in repr(shown)
    provenance = (release.folder / "releases/cpu/provenance.json").read_text()
    assert '"git+http://127.0.0.1:9/x.git"' in provenance
    assert "secret" not in provenance


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


def test_a_folder_that_exists_and_an_empty_storage_leave_everything_as_it_was(published, tmp_path):
    assert_sentence(run(published, "fetch", "--version", "0.1.0", "--to", "packages"), "packages exists")
    other = clone(published, tmp_path / "clone")
    shutil.rmtree(published.folder.parent / "storage")
    assert_sentence(run(other, "fetch", "--version", "0.1.0", "--to", "fetched"), "0.1.0 could not be fetched")
    assert not (other.folder / "fetched").exists()


def test_words_are_checked(release):
    result = release.run(
        sys.executable, "-m", "press.release", "promote", "--version", "1", "--stage", "x", check=False
    )
    assert result.returncode == 2
    assert "invalid choice: 'x'" in result.stderr
