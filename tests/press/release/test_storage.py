"""What is pushed is proven to be there; what is missing or damaged on the remote is mended; a dead one is left."""

import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import yaml
from projects import Project, assert_sentence

from press.core import files
from press.release import outputs

from .azurite import Azurite
from .conftest import change_unseen, clone, rebuild, storage, with_remotes

pytestmark = pytest.mark.integration
WHOLE = "the remote has all outputs"


def objects(project: Project) -> list[Path]:
    return sorted(path for path in (project.folder.parent / "storage").rglob("*") if path.is_file())


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_push_and_a_pull_give_the_same_bytes_and_nothing_is_left_to_run(release, tmp_path):
    assert WHOLE in storage(release, "push").stdout
    other = clone(release, tmp_path / "clone")
    other.run("python", "-m", "press.release.storage", "pull")
    assert files.digests(other.folder / "packages") == files.digests(release.folder / "packages")
    assert "Running stage" not in other.run("dvc", "repro").stdout


@pytest.mark.parametrize("damage", ["removed", "changed"])
@pytest.mark.parametrize("kind", [".dir", "member"])
def test_what_is_damaged_on_the_remote_is_pushed_again(published, kind, damage):
    before = {path: path.read_bytes() for path in objects(published)}
    path = next(path for path in before if path.name.endswith(".dir") == (kind == ".dir"))
    path.unlink() if damage == "removed" else overwrite(path, b"damaged")
    result = storage(published, "push")
    assert result.returncode == 0, result.stderr
    assert WHOLE in result.stdout
    assert {path: path.read_bytes() for path in objects(published)} == before


def test_what_is_nowhere_any_more_is_a_sentence(release):
    storage(release, "push")
    member = next(path for path in objects(release) if not path.name.endswith(".dir"))
    member.unlink()
    shutil.rmtree(release.folder / ".dvc/cache")
    assert_sentence(storage(release, "push"), "the outputs are not on the remote: ", " in DVC's cache, too")
    shutil.rmtree(release.folder / "packages")
    assert_sentence(storage(release, "pull"), "missing or damaged on the remote, and not brought back", "`dvc repro`")


def poison(project: Project, kind: str) -> dict[Path, bytes]:
    """Change a byte of the object of packages/cpu/model.onnx on the remote, or of its folder's list; return what was
    there before."""
    (made,) = yaml.safe_load((project.folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]["package"]["outs"]
    listing = project.folder.parent / f"storage/files/md5/{made['md5'][:2]}/{made['md5'][2:]}"
    members = {member["relpath"]: member["md5"] for member in json.loads(listing.read_bytes())}
    path = listing if kind == ".dir" else listing.parents[1] / members["model.onnx"][:2] / members["model.onnx"][2:]
    before = path.read_bytes()
    # A list that still can be read, but names another file.
    changed = before.replace(b"model.onnx", b"model.onnX") if kind == ".dir" else bytes([before[0] ^ 1]) + before[1:]
    overwrite(path, changed)
    return {path: before}


@pytest.mark.parametrize(("kind", "before"), [(".dir", ""), ("member", "pull")])
def test_what_comes_damaged_is_named_and_removed_and_all_else_comes(release, kind, before, tmp_path):
    (release.folder / "sound.txt").write_text("sound")
    release.run("dvc", "add", "--quiet", "sound.txt")
    release.commit()
    storage(release, "push")
    good = poison(release, kind)
    other = clone(release, tmp_path / "clone")
    if before:
        other.run("dvc", before, "--quiet")
    result = storage(other, "pull")
    name = "packages/cpu" if kind == ".dir" else "packages/cpu/model.onnx"
    assert_sentence(result, name, "missing or damaged on the remote, and not brought back", "`make push`")
    assert not (other.folder / "packages/cpu").exists()
    assert (other.folder / "sound.txt").exists()
    for path, content in good.items():
        cached = other.folder / ".dvc/cache" / path.relative_to(release.folder.parent / "storage")
        assert not cached.exists()
        overwrite(path, content)
    result = storage(other, "pull")
    assert result.returncode == 0, result.stderr
    assert files.digests(other.folder / "packages") == files.digests(release.folder / "packages")
    assert "Data and pipelines are up to date" in other.run("dvc", "status").stdout


def test_a_damaged_cache_and_a_workspace_that_dvc_takes_for_right_are_mended_by_a_pull(published):
    change_unseen(published, "packages/cpu/model.onnx")
    result = storage(published, "pull")
    assert result.returncode == 0, result.stderr
    assert "packages/cpu was not what DVC took it for, and is removed" in result.stdout
    assert "`dvc repro --force --downstream package`" in result.stdout
    assert (published.folder / "packages/cpu/model.onnx").read_text() == "the weights\n"


def test_a_damaged_cache_is_named_by_a_push_and_filled_again_with_what_is_here(release):
    digest = hashlib.md5(b"the weights\n", usedforsecurity=False).hexdigest()
    overwrite(release.folder / f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}", b"the weightz\n")
    result = storage(release, "push")
    assert_sentence(
        result, "packages/cpu/model.onnx, releases/cpu/model.onnx", "damaged in DVC's cache", "`make repro`"
    )
    assert "network" not in result.stderr
    release.run(sys.executable, "-m", "press.repro")
    assert WHOLE in storage(release, "push").stdout


def test_what_the_user_changed_stays(release):
    storage(release, "push")
    overwrite(release.folder / "packages/cpu/model.onnx", b"mine")
    assert_sentence(storage(release, "pull"), "could not be pulled", "packages/cpu")
    assert (release.folder / "packages/cpu/model.onnx").read_bytes() == b"mine"


def test_outputs_are_named_to_dvc_by_their_file_unless_it_has_others(release, monkeypatch):
    monkeypatch.chdir(release.folder)
    everything = list(outputs.verify(outputs.CACHE))
    assert outputs.targets(everything) == ["dvc.yaml", "releases/cpu.dvc"]
    first, *others = [out for out in everything if not out.maker.endswith(".dvc")]
    wanted = [out for out in everything if out != first]
    assert outputs.targets(wanted) == sorted(["releases/cpu.dvc", *(out.path for out in others)])


def test_without_a_remote_it_says_how_to_name_one(release):
    release.run("dvc", "remote", "remove", "storage")
    for verb in ("push", "pull"):
        assert_sentence(storage(release, verb), "no default remote", "`dvc remote add --default storage URL`")


def test_a_full_or_forbidden_folder_is_a_sentence(release):
    (release.folder.parent / "storage").symlink_to("/proc/1/none")
    assert_sentence(storage(release, "push"), "the outputs are not on the remote")


def test_what_dvc_says_of_its_own_mistakes_is_passed_on(release):
    release.edit(".dvc/config", "[core]", "[core")
    assert_sentence(storage(release, "push"), "onfig")


@pytest.fixture
def azurite(tmp_path):
    with Azurite(tmp_path / "azurite") as server:
        yield server


@pytest.fixture(scope="module")
def large_once(released: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with a package of 32 MB, which takes its time to be pushed. Copy it to change it."""
    project = with_remotes(released, tmp_path_factory.mktemp("large"))
    rebuild(project, "weights " * 4_000_000)
    return project


@pytest.fixture
def large(large_once: Project, tmp_path: Path) -> Project:
    """A copy of the project with a large package."""
    return with_remotes(large_once, tmp_path)


def to_azure(project: Project, server: Azurite) -> None:
    project.run("dvc", "remote", "add", "--force", "--default", "storage", "azure://models/press")
    project.run("dvc", "remote", "modify", "--local", "storage", "connection_string", server.connection_string)


def test_azure_round_trip_with_a_blob_deleted_on_the_server(release, azurite, tmp_path):
    to_azure(release, azurite)
    release.commit()
    assert WHOLE in storage(release, "push").stdout
    other = clone(release, tmp_path / "clone")
    to_azure(other, azurite)
    blobs = azurite.blobs()
    listing = next(json.loads(azurite.read(name)) for name in blobs if name.endswith(".dir"))
    digest = listing[0]["md5"]
    azurite.delete(f"press/files/md5/{digest[:2]}/{digest[2:]}")
    # DVC alone says that all is well.
    assert "Everything is up to date" in release.run("dvc", "push").stdout
    assert WHOLE in storage(release, "push").stdout
    assert azurite.blobs() == blobs
    assert storage(other, "pull").returncode == 0
    assert files.digests(other.folder / "packages") == files.digests(release.folder / "packages")


def test_azure_with_a_wrong_key_or_no_server_or_no_container_is_a_sentence(release, azurite):
    to_azure(release, azurite)
    key = "connection_string"
    wrong = azurite.connection_string.replace(
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq", "a" * 62
    )
    assert wrong != azurite.connection_string
    release.run("dvc", "remote", "modify", "--local", "storage", key, wrong)
    assert_sentence(storage(release, "push"), "remote")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = azurite.connection_string.replace(f":{azurite.port}/", f":{free.getsockname()[1]}/")
    release.run("dvc", "remote", "modify", "--local", "storage", key, dead)
    assert_sentence(storage(release, "push", "--seconds", "5"), "the remote gave no answer in 5 s")
    release.run("dvc", "remote", "modify", "--local", "storage", key, azurite.connection_string)
    release.run("dvc", "remote", "modify", "storage", "url", "azure://nowhere/press")
    assert_sentence(storage(release, "push"), "remote")


def test_a_server_that_hangs_in_the_middle_is_given_up_and_taken_up_again(large, azurite):
    to_azure(large, azurite)
    process = large.start("python", "-m", "press.release.storage", "push", "--seconds", "6")
    while not azurite.blobs():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    azurite.pause()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("error: ")
    azurite.go_on()
    assert WHOLE in storage(large, "push").stdout


def test_a_push_that_is_killed_is_finished_by_the_next(large, azurite):
    to_azure(large, azurite)
    process = large.start("python", "-m", "press.release.storage", "push", start_new_session=True)
    while not azurite.blobs():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert WHOLE in storage(large, "push").stdout
