"""What may not be published is deployed nowhere; a tarball has the same bytes whenever it is made."""

import os
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from projects import ROOT, Project, assert_sentence

from press.core import files
from press.core.errors import UserError
from press.release import deploying
from press.release.settings import Release

from .conftest import change_unseen, measure, run

pytestmark = pytest.mark.integration
TARBALL = ("--to", "tarball", "--into", "../box")


def require(project: Project) -> None:
    project.edit("params.yaml", "required: auto", "required: true")
    project.commit()


def test_a_tarball_has_the_release_and_the_unit_and_the_same_bytes_whenever_it_is_made(release):
    made = release.folder / "../box/cpu-0.1.0.tar"
    assert_sentence(run(release, "undeploy", *TARBALL), "cpu-0.1.0.tar is not there")
    told = run(release, "deploy", *TARBALL)
    assert told.returncode == 0, told.stderr
    first = made.read_bytes()
    assert files.sha256(made) in told.stdout
    with tarfile.open(made) as tar:
        names = tar.getnames()
        assert {(each.mtime, each.uid, each.gid, each.uname, each.mode) for each in tar} == {(0, 0, 0, "", 0o644)}
        tar.extractall(made.parent, filter="data")
    assert names[0] == "olive-press.service"
    assert names[1:] == sorted(names[1:])
    assert files.digests(made.parent / "package") == files.digests(release.folder / "releases/cpu")
    assert (made.parent / names[0]).read_bytes() == (ROOT / "deploy/olive-press.service").read_bytes()
    for path in (release.folder / "releases/cpu").rglob("*"):
        os.utime(path)
    made.unlink()
    assert run(release, "deploy", *TARBALL).returncode == 0
    assert made.read_bytes() == first
    # What is no longer to be published can be taken away all the same.
    require(release)
    assert run(release, "undeploy", *TARBALL).returncode == 0
    assert not made.exists()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda project: change_unseen(project, "releases/cpu/model.onnx"), "is not what"),
        (require, "not signed"),
        (lambda project: measure(project, loss=2.5), "other figures"),
    ],
    ids=["damage", "signature", "figures"],
)
def test_what_may_not_be_published_is_not_deployed(release, spoil, why):
    spoil(release)
    assert_sentence(run(release, "deploy", *TARBALL), why)
    assert not (release.folder / "../box").exists()


@pytest.mark.parametrize("place", [TARBALL, ("--to", "foundry", "--into", "../box"), ("--to", "azureml")])
def test_no_place_takes_what_did_not_pass_its_gates(release, place):
    measure(release, gates=[{"gate": "a <= 1", "passed": False, "reason": "2"}])
    assert_sentence(run(release, "deploy", *place), "did not pass")
    assert not (release.folder / "../box").exists()


def test_a_place_that_is_a_folder_needs_one_that_is_nobodys(release):
    for words, why in (
        (["--to", "tarball"], "need INTO=folder"),
        (["--to", "azureml", "--into", "x"], "azureml has none"),
        (["--to", "tarball", "--into", "packages/x"], "is in packages"),
    ):
        assert_sentence(run(release, "deploy", *words), why)
    blocked = Path(release.folder / "../box")
    blocked.write_text("no folder")
    assert_sentence(run(release, "deploy", *TARBALL), "cannot be written")


def test_what_cannot_be_taken_away_is_a_sentence(tmp_path, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    release = Release.model_construct(publish=SimpleNamespace(target="cpu", version="1"))
    monkeypatch.setattr(deploying, "_name", lambda _: "cpu")
    monkeypatch.setattr(files, "remove", refuse)
    (tmp_path / "cpu-1.tar").touch()
    with pytest.raises(UserError, match=r"cpu-1\.tar cannot be removed \(Permission denied\)"):
        deploying.undeploy(release, 1, "tarball", str(tmp_path))
