"""Everything that can be checked is checked before anything is sent, and each check stops what comes after it.

What the checks themselves find is asked of real projects, in test_publish.py and beside it.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from press.core import files, shell
from press.core.errors import UserError
from press.release import (
    bom,
    bundle,
    licences,
    measured,
    package,
    provenance,
    publishing,
    signature,
    storage,
    workspace,
)
from press.release.package import Package
from press.release.registry import Version

RELEASE: Any = SimpleNamespace(
    publish=SimpleNamespace(target="cpu", registry="git", version="1.0.0", git=SimpleNamespace(artifact="press")),
    signing="the signing",
    licences="the licences",
)
OURS = SimpleNamespace(digest="a" * 64, folder=Path("releases/cpu"))


class Place:
    """A registry that notes what it is asked to do.

    :param found: the versions that it has
    """

    def __init__(self, done: list[str], *found: Version) -> None:
        self.done = done
        self.found = list(found)

    def __getattr__(self, name: str):
        return lambda *_: self.done.append(name)

    def versions(self) -> list[Version]:
        self.done.append("versions")
        return self.found

    def describe(self, _: object) -> str:
        return "the place"

    def fetch(self, version: str, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.onnx").write_text(version, encoding="utf-8")


def noting(done: list[str], patch: pytest.MonkeyPatch, refused: str, steps: dict[str, object]) -> None:
    """Replace MODULE.FUNCTION by what notes its name and returns a value, or refuses."""
    modules = {each.__name__.rpartition(".")[2]: each for each in (bom, bundle, licences, measured, package, signature)}
    modules |= {each.__name__.rpartition(".")[2]: each for each in (provenance, publishing, storage, workspace)}

    def step(name: str, value: object):
        def noted(*_: object, **__: object) -> object:
            if name == refused:
                raise UserError(f"refused by {name}")
            done.append(name)
            return value

        return noted

    for name, value in steps.items():
        module, _, function = name.partition(".")
        patch.setattr(modules[module], function, step(name, value))


CHECKS = {
    "workspace.check_committed": None,
    "workspace.check_tracked": None,
    "workspace.check_up_to_date": None,
    "workspace.check_artifact": None,
    "package.load": SimpleNamespace(digest="a" * 64, manifest={"inputs": {}}),
    "measured.check_gates": None,
    "licences.check": None,
    "bundle.check_released": OURS,
}


def publish(monkeypatch: pytest.MonkeyPatch, refused: str = "", *found: Version, dry_run: bool = False) -> list[str]:
    """Publish, and return what was done until a check refused it."""
    done: list[str] = []
    place = Place(done, *found)
    noting(done, monkeypatch, refused, CHECKS | {"publishing._registry": place, "storage.push": None})
    monkeypatch.setattr(storage, "describe", lambda _: "the storage")
    monkeypatch.setattr(files, "size", lambda _: 0)
    if refused:
        with pytest.raises(UserError, match=f"^refused by {refused}$"):
            publishing.publish(RELEASE, 1, dry_run=dry_run)
    else:
        publishing.publish(RELEASE, 1, dry_run=dry_run)
    return done


FIRST = [*CHECKS, "publishing._registry", "versions", "check"]


@pytest.mark.parametrize("refused", CHECKS)
def test_each_check_keeps_all_else_from_being_done(monkeypatch, refused):
    assert publish(monkeypatch, refused) == FIRST[: FIRST.index(refused)]


def test_what_is_sent_comes_after_all_checks_and_the_version_last(monkeypatch):
    assert publish(monkeypatch) == [*FIRST, "storage.push", "register"]
    assert publish(monkeypatch, dry_run=True) == FIRST
    assert publish(monkeypatch, "storage.push") == FIRST
    there = Version("1.0.0", OURS.digest, "", "")
    assert publish(monkeypatch, "", there) == [*FIRST, "storage.push", "settle"]


def test_what_a_version_is_built_and_fetched_by_must_be_in_the_commit(monkeypatch):
    publish(monkeypatch)
    needed: list[Path] = []
    monkeypatch.setattr(workspace, "check_tracked", lambda *paths: needed.extend(paths))
    publishing.publish(RELEASE, 1, dry_run=True)
    assert list(map(str, needed)) == ["dvc.yaml", "dvc.lock", "releases/cpu.dvc"]


@pytest.mark.parametrize("missing", ["dvc.lock", "releases/cpu.dvc"])
def test_a_file_that_is_not_in_the_commit_is_named(monkeypatch, missing):
    needed = [Path("dvc.yaml"), Path("dvc.lock"), Path("releases/cpu.dvc")]
    listed = "\0".join(str(path) for path in needed if str(path) != missing) + "\0"
    monkeypatch.setattr(shell, "output", lambda *_: listed)
    first = "`make release` writes it, " if missing.startswith("releases") else ""
    with pytest.raises(UserError) as caught:
        workspace.check_tracked(*needed)
    assert str(caught.value) == (
        f"{missing} is not in the commit at HEAD: {first}`git add --force {missing}`, commit it, then publish"
    )


def test_a_version_of_another_content_stays_as_it_is(monkeypatch):
    with pytest.raises(UserError, match=r"^version 1\.0\.0 is already published with another content \(bbbb"):
        publish(monkeypatch, "", Version("0.9.0", OURS.digest, "", ""), Version("1.0.0", "b" * 64, "", ""))


RELEASED = (
    *("workspace.check_committed", "workspace.check_up_to_date", "package.load", "measured.check_gates"),
    "licences.check",
)


@pytest.mark.parametrize("refused", [*RELEASED, "signature.check_public", "provenance.write", "signature.sign"])
def test_a_release_that_is_refused_leaves_the_one_before(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    folder = Path("releases/cpu")
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_text("before", encoding="utf-8")
    Path("packages/cpu").mkdir(parents=True)
    built = Package(Path("packages/cpu"), {"inputs": {}}, {"manifest.json": "b" * 64})
    done: list[str] = []
    steps: dict[str, object] = dict.fromkeys(
        [*RELEASED, "signature.check_public", "provenance.write", "signature.sign"]
    )
    steps |= dict.fromkeys(["workspace.is_changed", "measured.join", "bom.write", "provenance.state", "bundle._track"])
    steps |= {"package.load": built, "signature.can_sign": True, "bundle._is_released": False}
    noting(done, monkeypatch, refused, steps)
    with pytest.raises(UserError, match=f"^refused by {refused}$"):
        bundle.make(RELEASE)
    assert (folder / "model.onnx").read_text(encoding="utf-8") == "before"


def test_a_release_that_dvc_has_no_room_for_is_none(monkeypatch):
    monkeypatch.setattr(shell, "output", lambda *_: "")
    monkeypatch.setattr(workspace, "status", {"releases/cpu.dvc": {"releases/cpu.dvc": []}}.__getitem__)
    with pytest.raises(UserError, match=r"^releases/cpu did not get into DVC's cache: free some of its disk"):
        bundle._track(Path("releases/cpu"))


def fetch(monkeypatch: pytest.MonkeyPatch, came: str, *found: Version, version: str = "1.0.0", stage: str = "") -> None:
    monkeypatch.setattr(publishing, "_registry", lambda *_: Place([], *found))
    checked = SimpleNamespace(digest=came), "the commit", None
    monkeypatch.setattr(bundle, "check", lambda *_: checked)
    monkeypatch.setattr(bundle, "describe", lambda *_: [])
    publishing.fetch(RELEASE, 1, version, stage, Path("fetched"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_came_is_what_was_registered_or_nothing_is_left(folder, monkeypatch):
    mine = Version("1.0.0", "a" * 64, "", "", ["prod"])
    with pytest.raises(UserError, match=r"^version 1\.0\.0 is aaaaaaaaaaaa, but bbbbbbbbbbbb came: publish it anew$"):
        fetch(monkeypatch, "b" * 64, mine)
    assert list(folder.iterdir()) == []
    fetch(monkeypatch, "a" * 64, Version("0.1.0", "c" * 64, "", ""), mine, version="", stage="prod")
    assert (folder / "fetched/model.onnx").read_text(encoding="utf-8") == "1.0.0"
    with pytest.raises(UserError, match=r"^fetched exists: name a new folder$"):
        fetch(monkeypatch, "a" * 64, mine)


def test_a_version_whose_publication_did_not_end_is_not_fetched(folder, monkeypatch):
    with pytest.raises(UserError, match=r"^the publication of version 1\.0\.0 did not end: run `make publish` again$"):
        fetch(monkeypatch, "a" * 64, Version("1.0.0", "a" * 64, "", "", whole=False))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("holder", "what"), [(Version("2.0.0", "", "", "", ["prod"]), "version 2.0.0"), (None, "no version")]
)
def test_a_promotion_says_what_holds_when_somebody_else_promoted_at_the_same_time(monkeypatch, holder, what):
    place = Place([], Version("1.0.0", "", "", ""))

    def promote(*_: object) -> None:
        place.found += [holder] if holder else []

    place.promote = promote
    monkeypatch.setattr(publishing, "_registry", lambda *_: place)
    with pytest.raises(UserError, match=f"^prod is {what} now: somebody else promoted at the same time"):
        publishing.promote(RELEASE, 1, "1.0.0", "prod")
