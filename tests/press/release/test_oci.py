"""A release in a registry of containers: Debian's docker-registry on loopback, by TLS and with a password."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import Project, assert_sentence

from press.core import files
from press.release import attestation

from .conftest import clone, measure, rebuild, release_again, run, with_remotes
from .container_registry import PASSWORD, REPOSITORY, ContainerRegistry

pytestmark = pytest.mark.integration
PUBLISHED = "version 0.1.0 is published"
# Publishes, and kills itself when a call of the client has been answered for the given time.
KILLING = """
import os, runpy, signal, sys
from press.release.distribution import Repository

answered, call = [], Repository.{call}

def killing(*words):
    answered.append(call(*words))
    if len(answered) == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return answered[-1]

Repository.{call} = killing
sys.argv = ["press.release", "publish"]
runpy.run_module("press.release", run_name="__main__", alter_sys=True)
"""
MODEL, ADAPTER = "model.onnx", "adapters/travel/adapter.onnx_adapter"


@pytest.fixture
def release(pushed_once: Project, server: ContainerRegistry, tmp_path: Path) -> Project:
    """A copy of the project, with remotes of its own."""
    result = with_remotes(pushed_once, tmp_path)
    result.environment |= server.environment
    return result


@pytest.fixture(scope="module")
def newer_once(
    pushed_once: Project, there: Path, server: ContainerRegistry, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, Path]:
    """The project after other weights were published as version 0.2.0, and what the registry holds then."""
    server.empty()
    shutil.copytree(there, server.root)
    project = with_remotes(pushed_once, tmp_path_factory.mktemp("newer"))
    project.environment |= server.environment
    rebuild(project, "other weights\n")
    published(raised(project))
    return project, Path(shutil.copytree(server.root, tmp_path_factory.mktemp("both") / "root"))


@pytest.fixture
def newer(newer_once: tuple[Project, Path], server: ContainerRegistry, tmp_path: Path) -> Project:
    """A copy of the project whose registry has the versions 0.1.0 and 0.2.0, with other weights."""
    project, held = newer_once
    server.empty()
    shutil.copytree(held, server.root)
    result = with_remotes(project, tmp_path)
    result.environment |= server.environment
    return result


def published(release: Project, *words: str) -> subprocess.CompletedProcess:
    result = run(release, *words, "publish")
    assert result.returncode == 0, result.stderr
    assert PASSWORD not in result.stdout + result.stderr
    return result


def refused(result: subprocess.CompletedProcess, *parts: str) -> None:
    assert_sentence(result, *parts)
    assert PASSWORD not in result.stdout + result.stderr


def raised(release: Project, version: str = "0.2.0") -> Project:
    """Write another version into params.yaml."""
    place = "# such as owner/olive-press\n    version: "
    release.edit("params.yaml", f"{place}0.1.0", f"{place}{version}")
    release.commit()
    return release


def layers(registry: ContainerRegistry, tag: str = "0.1.0") -> dict[str, dict]:
    return {each["annotations"]["org.cncf.model.filepath"]: each for each in registry.manifest(tag)["layers"]}


def blob(registry: ContainerRegistry, name: str) -> Path:
    """Return the registry's file of a file of version 0.1.0."""
    return registry.blob(layers(registry)[name]["digest"].removeprefix("sha256:"))


def referrers(registry: ContainerRegistry) -> Path:
    """Return the tag of the list of what refers to version 0.1.0."""
    return registry.tag(registry.tag("0.1.0").read_text().replace(":", "-"))


def test_a_round_trip(release, empty, tmp_path):
    dry = run(release, "publish", "--dry-run")
    assert f"the artifact {empty.host}/{REPOSITORY}:0.1.0" in dry.stdout, dry.stderr
    assert not empty.root.exists()
    assert PUBLISHED in published(release).stdout
    manifest = empty.manifest("0.1.0")
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    digests = files.digests(release.folder / "releases/cpu")
    found = layers(empty)
    assert {name: layer["digest"] for name, layer in found.items()} == {
        name: f"sha256:{digest}" for name, digest in digests.items()
    }
    kinds = {name: layer["mediaType"].removeprefix("application/vnd.cncf.model.") for name, layer in found.items()}
    assert (kinds[MODEL], kinds[ADAPTER], kinds["README.md"]) == ("weight.v1.raw", "weight.v1.raw", "doc.v1.raw")
    config = json.loads(empty.blob(manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    assert config["descriptor"]["version"] == manifest["annotations"]["org.opencontainers.image.version"] == "0.1.0"
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]
    other = clone(release, tmp_path / "clone")
    other.run(sys.executable, "-m", "press.release", "fetch", "--version", "0.1.0", "--to", "fetched")
    assert files.digests(other.folder / "fetched") == digests


def test_stages_and_versions_and_what_is_not_sent_twice(release, holding):
    assert run(release, "promote", "--version", "0.1.0", "--stage", "prod").returncode == 0
    adapter = blob(holding, ADAPTER)
    sent_before = adapter.stat().st_mtime_ns
    measure(release, loss=1.25)
    release_again(release)
    assert "version 0.2.0 is published" in (result := published(raised(release))).stdout
    # Card, metrics, bills of materials, provenance and signature, and not the gates, manifest, weights and adapter.
    assert "6 of 10 files are not in" in result.stdout
    assert adapter.stat().st_mtime_ns == sent_before
    for stage in ("staging", "prod"):
        assert run(release, "promote", "--version", "v0.2.0", "--stage", stage).returncode == 0
    assert holding.tag("prod").read_text() == holding.tag("0.2.0").read_text()
    lines = run(release, "versions").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["0.1.0", "–"], ["0.2.0", "prod,"]]
    digest = files.sha256(release.folder / "packages/cpu/manifest.json")
    assert f"prod, staging  {digest[:12]}  travel 1.250" in lines[2]
    assert run(release, "promote", "--version", "0.1.0", "--stage", "prod").returncode == 0
    assert run(release, "fetch", "--stage", "prod", "--to", "fetched").returncode == 0
    assert json.loads((release.folder / "fetched/metrics.json").read_text())["travel"]["onnx"]["adapter"]["loss"] == 1.5
    refused(run(release, "fetch", "--version", "3", "--to", "x"), "no version 3, only 0.1.0 ['prod'], 0.2.0 ['stag")


def test_the_same_content_again_changes_nothing(release, holding):
    before = files.digests(holding.root)
    assert "already published with this content" in published(release).stdout
    assert files.digests(holding.root) == before


def test_another_content_under_the_same_version_is_refused(newer):
    newer.edit("params.yaml", "version: 0.2.0", "version: 0.1.0")
    newer.commit()
    refused(run(newer, "publish"), "already published with another content", "raise publish.oci.version")


def test_another_release_of_the_same_package_leaves_the_version_as_it_was(release, holding):
    measure(release, loss=1.25)
    release_again(release)
    before = holding.tag("0.1.0").read_text()
    assert "its figures stay: travel 1.500" in published(release).stdout
    assert holding.tag("0.1.0").read_text() == before
    blob(holding, "metrics.json").unlink()
    refused(run(release, "publish"), "another release of the same package, and metrics.json of it is not whole")


@pytest.mark.parametrize(
    ("call", "number", "tagged"), [("upload", 4, False), ("put_manifest", 1, False), ("put_manifest", 6, True)]
)
def test_a_push_that_is_killed_after_a_file_the_manifest_or_the_tag_goes_on(release, empty, call, number, tagged):
    """The third is the tag: the referrers and their list come between; test_oci_steps.py kills at every request."""
    result = release.run(sys.executable, "-c", KILLING.format(call=call, number=number), check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert empty.tag("0.1.0").exists() == tagged
    assert "9 of 9 files are not in" not in published(release).stdout
    assert run(release, "fetch", "--version", "0.1.0", "--to", "fetched").returncode == 0


def test_what_came_before_the_tag_is_no_version_and_is_used_again(release, holding):
    """As a kill leaves it between the last upload and the tag."""
    shutil.rmtree(holding.tag("0.1.0").parents[1])
    refused(run(release, "fetch", "--version", "0.1.0", "--to", "fetched"), "no version 0.1.0, and none at all yet")
    result = published(release)
    assert PUBLISHED in result.stdout
    assert "0 of 10 files are not in" in result.stdout


def test_a_missing_blob_is_named_and_sent_again(release, holding):
    blob(holding, MODEL).unlink()
    refused(run(release, "fetch", "--version", "0.1.0", "--to", "fetched"), f"{MODEL} of version 0.1.0 is missing")
    assert not (release.folder / "fetched").exists()
    assert f"{MODEL} did not arrive whole: uploading again" in published(release).stdout
    assert run(release, "fetch", "--version", "0.1.0", "--to", "fetched").returncode == 0


@pytest.mark.parametrize("name", [MODEL, "provenance.json"])
def test_a_damaged_blob_is_named_when_it_is_fetched_and_when_it_is_published(release, holding, name):
    path = blob(holding, name)
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    refused(run(release, "fetch", "--version", "0.1.0", "--to", "fetched"), f"{name} of ", "missing or damaged")
    assert not (release.folder / "fetched").exists()
    # This server keeps a blob that it has, whatever its bytes are.
    refused(run(release, "publish"), f"{name} (sha256:", "keeps it although it was sent again")
    path.unlink()
    assert published(release).returncode == 0
    assert run(release, "fetch", "--version", "0.1.0", "--to", "fetched").returncode == 0


def test_a_tag_that_somebody_moved_is_no_version_any_more(newer, server):
    shutil.copyfile(server.tag("0.2.0"), server.tag("0.1.0"))
    for words in (["fetch", "--to", "fetched"], ["promote", "--stage", "prod"]):
        refused(run(newer, *words, "--version", "0.1.0"), "somebody moved the tag 0.1.0", "which is 0.2.0")
    assert "moved to 0.2.0" in run(newer, "versions").stdout
    assert run(newer, "fetch", "--version", "0.2.0", "--to", "fetched").returncode == 0


def test_an_artifact_of_somebody_else_is_not_signed(release, holding):
    """Who may write to the registry gives an older release a newer version's name."""
    manifest = holding.manifest("0.1.0")
    manifest["annotations"]["org.opencontainers.image.version"] = "0.2.0"
    program = (
        "import sys; from press.release.distribution import *\n"
        "content = sys.stdin.buffer.read()\n"
        f"Repository('{holding.host}', '{REPOSITORY}', 60).put_manifest(content, '0.2.0')"
    )
    release.run(sys.executable, "-c", program, input=json.dumps(manifest))
    assert [line.split()[0] for line in run(release, "versions").stdout.splitlines()[1:]] == ["0.1.0", "0.2.0"]
    words = ("fetch", "--version", "0.2.0", "--to", "fetched")
    refused(run(release, *words), "has no provenance that is signed as params.yaml asks")
    assert not (release.folder / "fetched").exists()


def test_what_refers_to_an_artifact_is_a_signed_provenance_and_the_model_signature(release, holding):
    index = holding.manifest(referrers(holding).parents[1].name)
    notes = [entry["annotations"]["dev.sigstore.bundle.predicateType"] for entry in index["manifests"]]
    assert sorted(notes) == ["https://model_signing/signature/v1.0", "https://slsa.dev/provenance/v1"]
    assert {entry["artifactType"] for entry in index["manifests"]} == {attestation.BUNDLE}
    for entry in index["manifests"]:
        referrer = json.loads(holding.blob(entry["digest"].removeprefix("sha256:")).read_text())
        assert referrer["subject"]["digest"] == holding.tag("0.1.0").read_text()


def test_without_what_refers_to_it_an_artifact_is_refused_until_it_is_published_again(release, holding):
    shutil.rmtree(referrers(holding).parents[1])
    words = ("fetch", "--version", "0.1.0", "--to", "fetched")
    refused(run(release, *words), "has no provenance that is signed as params.yaml asks", "oras cp --recursive")
    assert published(release).returncode == 0
    assert run(release, *words).returncode == 0


def test_another_key_does_not_vouch(release, holding):
    other = release.folder.parent / "other.pem"
    release.edit("params.yaml", "private: ''  ", f"private: {other}")
    (release.folder / "signing.pub").unlink()
    assert release.module("press.release.signature").returncode == 0
    words = ("fetch", "--version", "0.1.0", "--to", "fetched")
    refused(run(release, *words), "has no provenance that is signed as params.yaml asks")


def test_without_the_key_nothing_is_sent(release, empty):
    release.environment["XDG_CONFIG_HOME"] = str(release.folder.parent / "elsewhere")
    refused(run(release, "publish"), "signing.pem is missing, by which the artifact's digest is signed")
    assert not empty.root.exists()


def test_two_promotions_end_with_one_holder(newer, server):
    command = (sys.executable, "-m", "press.release", "promote", "--stage", "prod", "--version")
    other = newer.copy_to(newer.folder.parent / "other")
    other.environment = newer.environment
    both = [place.start(*command, version) for place, version in ((newer, "0.1.0"), (other, "0.2.0"))]
    ended = [(process.communicate()[1], process.returncode) for process in both]
    held = server.tag("prod").read_text()
    assert held in {server.tag(version).read_text() for version in ("0.1.0", "0.2.0")}
    for said, code in ended:
        assert code == 0 or "somebody else promoted at the same time" in said


def silent(server: ContainerRegistry) -> None:
    server.process.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize(
    ("fault", "parts"),
    [(ContainerRegistry.stop, ["could not be asked", "refused"]), (silent, ["gave no answer in 1 s"])],
)
def test_a_registry_that_is_not_there_is_a_sentence(
    release, holding, fault: Callable[[ContainerRegistry], None], parts: list[str]
):
    fault(holding)
    try:
        refused(run(release, "--seconds", "1", "publish"), *parts, "check the network, then run this again")
    finally:
        holding.stop()
        holding.start()


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ({"DOCKER_CONFIG": "nowhere"}, ["asks who you are", "`docker login 127.0.0.1:", "OCI_PASSWORD"]),
        ({"OCI_USERNAME": "publisher", "OCI_PASSWORD": "wrong"}, ["does not let you read", "log in as somebody who"]),
        ({"SSL_CERT_FILE": ""}, ["could not be asked", "CERTIFICATE_VERIFY_FAILED", "let SSL_CERT_FILE name"]),
    ],
)
def test_a_login_or_certificate_that_does_not_fit_is_a_sentence(release, holding, environment, parts):
    release.environment |= environment
    refused(run(release, "versions"), *parts)


def test_a_password_of_the_environment_logs_in(release, holding):
    release.environment |= {"DOCKER_CONFIG": "nowhere", "OCI_USERNAME": "publisher", "OCI_PASSWORD": PASSWORD}
    assert "0.1.0" in run(release, "versions").stdout


def test_what_is_missing_in_params_yaml_is_named(release, holding):
    release.edit("params.yaml", f"repository: {REPOSITORY}", "repository: ''")
    refused(run(release, "versions"), "publish.oci.repository is empty: name it in params.yaml, such as owner/")


def test_an_image_of_somebody_else_is_no_release(release, holding):
    tag = holding.tag("0.1.0")
    for path in (tag, *(tag.parents[1] / "index").rglob("link")):
        path.write_text(referrers(holding).read_text() if path == tag else path.read_text())
    refused(run(release, "fetch", "--version", "0.1.0", "--to", "x"), "is no release: publish.oci.repository")


def test_an_unsigned_release_has_an_unsigned_provenance(release, empty):
    release.edit("params.yaml", "required: auto", "required: false")
    (release.folder / "signing.pub").unlink()
    release.environment["XDG_CONFIG_HOME"] = str(release.folder.parent / "elsewhere")
    shutil.rmtree(release.folder / "releases/cpu")
    release.commit()
    release_again(release)
    assert PUBLISHED in published(release).stdout
    assert run(release, "fetch", "--version", "0.1.0", "--to", "fetched").returncode == 0
    index = empty.manifest(referrers(empty).parents[1].name)
    assert [entry["artifactType"] for entry in index["manifests"]] == [attestation.STATEMENT]


def test_an_adapter_comes_alone_where_the_rest_of_its_version_is(release, holding):
    assert run(release, "fetch", "--version", "0.1.0", "--to", "fetched").returncode == 0
    model = (release.folder / "fetched" / MODEL).read_bytes()
    release.edit("build.py", "text * 2", "text * 3")
    release.run("dvc", "repro", "--quiet")
    release.commit()
    release_again(release)
    published(raised(release))
    words = ("fetch", "--version", "0.2.0", "--to", "fetched", "--adapter")
    blob(holding, MODEL).unlink()
    before = files.digests(release.folder / "fetched")
    refused(run(release, *words, "packing"), "version 0.2.0 has no adapter 'packing', only travel")
    assert files.digests(release.folder / "fetched") == before
    result = run(release, *words, "travel")
    assert "fetched: version 0.2.0, adapter travel" in result.stdout, result.stderr
    assert files.digests(release.folder / "fetched") == files.digests(release.folder / "releases/cpu")
    assert (release.folder / "fetched" / MODEL).read_bytes() == model


def test_an_adapter_does_not_come_to_another_base(newer):
    assert run(newer, "fetch", "--version", "0.1.0", "--to", "fetched").returncode == 0
    before = files.digests(newer.folder / "fetched")
    words = ("fetch", "--version", "0.2.0", "--adapter", "travel", "--to")
    refused(run(newer, *words, "fetched"), f"{MODEL} there is not that of version 0.2.0", "into a new folder")
    assert files.digests(newer.folder / "fetched") == before
    refused(run(newer, *words, "releases/cpu"), "is in releases, which git, DVC or the pipeline fill")
    refused(run(newer, *words, "nowhere"), "nowhere is no folder with a package: fetch a version into it first")
    newer.edit("params.yaml", "registry: oci ", "registry: git ")
    newer.run("git", "tag", "--annotate", "olive-press@v0.2.0", "--message", "x")
    refused(run(newer, *words, "fetched"), "ADAPTER=travel needs a registry that gives single files")
