"""A model of an Azure ML registry, fetched through the real SDK from a server on loopback (tests/azureml_server.py)."""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import azureml_server as server
import pytest
from azureml_server import AzureMl, Reply, Request, Route

from press.core import files
from press.core.errors import UserError
from press.params import schema
from press.sources import azureml, download

pytestmark = pytest.mark.integration
URI = "azureml://registries/press/models/tiny/versions/3"
WEIGHTS = rf"{server.BLOBS}/(?P<container>[^/]+)/(?P<blob>.+\.safetensors)"
# What is asked for in two parts.
LONG = azureml.CHUNK + 1


@pytest.fixture
def azure(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureMl]:
    """A registry with one model, the only Azure that the SDK can reach."""
    folder = tmp_path / "registered"
    shutil.copytree(tiny_base, folder)
    with AzureMl(tmp_path) as running:
        running.models["press", "tiny", "3"] = folder
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running
    assert not running.unexpected


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def fetch(target: Path, uri: str = URI, timeout: float = 30) -> None:
    """Fetch a model into an empty folder, with the parts beside it."""
    folders = download.Folders(target, parts(target), target.parent / "none")
    azureml.bring(schema.AzuremlSource(uri=uri), False, folders, timeout)


def parts(target: Path) -> Path:
    return target.parent / "parts"


def refusal(target: Path, uri: str = URI, timeout: float = 30) -> str:
    """Fetch what cannot be fetched; return the sentence, which comes soon, is one line and leaves nothing behind."""
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        fetch(target, uri, timeout)
    assert time.monotonic() - start < 20
    assert not list(target.iterdir())
    sentence = str(caught.value)
    assert uri in sentence
    assert len(sentence.splitlines()) == 1
    return sentence


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_registered_checkpoint_arrives_byte_for_byte(azure: AzureMl, target: Path) -> None:
    registered = azure.models["press", "tiny", "3"]
    (registered / "tokenizer.model").write_bytes(bytes(range(251)) * (LONG // 251 + 1))
    fetch(target)
    assert files.digests(target) == files.digests(registered)


def test_only_a_checkpoints_files_are_kept(azure: AzureMl, target: Path) -> None:
    registered = azure.models["press", "tiny", "3"]
    expected = files.digests(registered)
    (registered / "pytorch_model.bin").write_bytes(b"a pickle")
    (registered / "tokenizer_x.py").write_text("raise SystemExit", encoding="utf-8")
    (registered / "onnx").mkdir()
    shutil.copy(registered / "config.json", registered / "onnx")
    fetch(target)
    assert files.digests(target) == expected


@pytest.mark.parametrize("uri", [URI.replace("/3", "/4"), URI.replace("tiny", "huge"), URI.replace("press", "other")])
def test_unknown_version_or_registry(azure: AzureMl, target: Path, uri: str) -> None:
    assert refusal(target, uri) == f"{uri} does not exist: mend base.azureml.uri in params.yaml"


def test_unreachable_registry(azure: AzureMl, target: Path) -> None:
    azure.ports[server.DISCOVERY] = closed_port()
    assert refusal(target).startswith(f"{URI} could not be downloaded: ")


def test_silent_registry(azure: AzureMl, target: Path) -> None:
    def keep_waiting(azure: AzureMl, request: Request) -> Reply:
        azure.closed.wait()
        return Reply(503)

    azure.faults.append(Route("GET", rf"{server.DATA_PLANE}/.*", keep_waiting))
    assert "Read timed out" in refusal(target, timeout=0.5)


def test_refused_login(azure: AzureMl, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "another secret")
    assert refusal(target) == f"no Azure login worked for {URI} (the reasons are above): run `az login`"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("host", [server.DISCOVERY, server.DATA_PLANE, server.BLOBS])
def test_refused_credential(azure: AzureMl, target: Path, host: str, status: int) -> None:
    azure.faults.append(Route("GET|HEAD", rf"{host}/.*", lambda azure, request: Reply(status)))
    assert refusal(target).startswith(f"Azure does not let you read {URI}: ")


def test_model_without_config(azure: AzureMl, target: Path) -> None:
    (azure.models["press", "tiny", "3"] / "config.json").unlink()
    assert refusal(target) == f"{URI} holds no config.json: it is not a Hugging Face checkpoint"


def test_download_that_breaks_off(azure: AzureMl, target: Path) -> None:
    def break_off(azure: AzureMl, request: Request) -> Reply:
        reply = server.blob(azure, request)
        return Reply(reply.status, reply.body[:1000], {**reply.headers, "Content-Length": str(len(reply.body))})

    azure.faults.append(Route("GET", WEIGHTS, break_off))
    assert "1000 bytes read" in refusal(target)


def test_disk_that_is_too_small_is_known_before_the_download(azure: AzureMl, small_disk: Path) -> None:
    with (azure.models["press", "tiny", "3"] / "tokenizer.model").open("wb") as sparse:
        sparse.truncate(10**10)
    azure.faults.append(Route("GET", WEIGHTS, unexpected))
    (small_disk / "target").mkdir()
    sentence = refusal(small_disk / "target")
    assert sentence.startswith(f"{URI} needs 10.0 GB of disk in {parts(small_disk / 'target')}/registries--press")


def unexpected(azure: AzureMl, request: Request) -> Reply:
    azure.unexpected.append(request.target)
    return Reply(500)


def test_download_goes_on_where_it_was(azure: AzureMl, target: Path) -> None:
    registered = azure.models["press", "tiny", "3"]
    folder = parts(target) / "registries--press--models--tiny--versions--3"
    folder.mkdir(parents=True)
    content = (registered / "model.safetensors").read_bytes()
    files.partial(folder / "model.safetensors").write_bytes(content[:1000])
    asked = []

    def note(azure: AzureMl, request: Request) -> Reply:
        asked.append(request.headers["x-ms-range"])
        return server.blob(azure, request)

    azure.faults.append(Route("GET", WEIGHTS, note))
    fetch(target)
    assert [span.partition("-")[0] for span in asked] == ["bytes=1000"]
    assert files.digests(target) == files.digests(registered)


def test_break_that_heals_is_survived(azure: AzureMl, target: Path) -> None:
    def break_off_once(azure: AzureMl, request: Request) -> Reply:
        azure.faults.clear()
        reply = server.blob(azure, request)
        return Reply(reply.status, reply.body[:1000], {**reply.headers, "Content-Length": str(len(reply.body))})

    azure.faults.append(Route("GET", WEIGHTS, break_off_once))
    fetch(target)
    assert files.digests(target) == files.digests(azure.models["press", "tiny", "3"])
