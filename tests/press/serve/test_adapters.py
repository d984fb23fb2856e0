"""Adapters that come and go while a package is served: who may, from where, and what runs meanwhile."""

import gc
import json
import os
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi_offline", reason="needs `make install-serve`")

import httpx2
from serving import SECONDS, Served, StandIn

from press.core import files
from press.core.errors import UserError
from press.serve import wire
from press.serve.adapters import Shelf
from press.serve.answering import Package
from press.serve.api import Limits
from press.serve.errors import RefusedError

pytestmark = pytest.mark.integration
KEY, ADMIN = "0123456789abcdef", "fedcba9876543210"
URL = "/v1/adapters"


@pytest.fixture(scope="module")
def shelf(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both of the package's adapters under other names."""
    root = tmp_path_factory.mktemp("shelf")
    for name, copy in {"travel": "first", "packing": "second"}.items():
        shutil.copytree(package / "adapters" / name, root / copy)
    return root


@pytest.fixture(scope="module")
def loaded(package: Path, shelf: Path) -> Iterator[Package]:
    loaded = Package(package, shelf=shelf)
    yield loaded
    loaded.close()


@pytest.fixture
def folder(shelf: Path) -> Iterator[Path]:
    """A copy of an adapter's folder, to be changed."""
    yield shutil.copytree(shelf / "first", shelf / "changed")
    shutil.rmtree(shelf / "changed")


def asked(model: str) -> wire.ChatRequest:
    content = [{"role": "user", "content": "a week in Rome"}]
    return wire.ChatRequest(model=model, messages=content, max_tokens=12, response_format={"type": "text"})


def answer(package: Package, model: str) -> str:
    return "".join(package.turns(package.read(asked(model))))


def refusal(package: Package, folder: str, name: str = "hotels") -> str:
    before = dict(package.adapters)
    with pytest.raises(RefusedError) as refused:
        package.load_adapter(name, folder)
    assert package.adapters == before
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_an_admin_loads_an_adapter_and_unloads_it(package, shelf):
    served = Served(Package(package, shelf=shelf), Limits(keys=(KEY,), admin_keys=(ADMIN,)))
    try:
        client, headers = served.client(KEY), {"Authorization": f"Bearer {ADMIN}"}
        given = {"json": {"name": "hotels", "folder": "first"}, "headers": headers, "timeout": SECONDS}
        came = httpx2.post(served.url + URL, **given)
        assert (came.status_code, came.json()["id"], came.json()["folder"]) == (200, "hotels", "first")
        listed = httpx2.get(served.url + URL, headers=headers).json()["data"]
        assert {each["id"]: each["folder"] for each in listed} == {"hotels": "first", "packing": None, "travel": None}
        assert "hotels" in [each.id for each in client.models.list()]
        question = {"messages": [{"role": "user", "content": "a week"}], "max_tokens": 8}
        texts = [client.chat.completions.create(model=each, **question) for each in ("hotels", "travel")]
        assert len({each.choices[0].message.content for each in texts}) == 1
        gone = httpx2.delete(f"{served.url}{URL}/hotels", headers=headers)
        assert gone.json() == {"id": "hotels", "object": "adapter.deleted", "deleted": True}
        again = httpx2.delete(f"{served.url}{URL}/hotels", headers=headers)
        assert (again.status_code, again.json()["error"]["code"]) == (404, "adapter_not_found")
        assert "hotels" not in [each.id for each in client.models.list()]
    finally:
        served.close()


@pytest.mark.parametrize("key", ["", KEY, "wrong"])
def test_nobody_else_sees_or_changes_adapters(start, key):
    served = start(StandIn(), keys=(KEY,), admin_keys=(ADMIN,))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    for method, path in (("GET", URL), ("POST", URL), ("DELETE", f"{URL}/travel")):
        came = httpx2.request(method, served.url + path, headers=headers)
        assert (came.status_code, came.json()["error"]["code"]) == (401, "invalid_api_key")


def test_where_no_folder_was_named_nothing_of_it_is_there(start):
    served = start(StandIn())
    assert httpx2.post(served.url + URL, json={"name": "hotels"}).status_code == 404
    assert URL not in httpx2.get(f"{served.url}/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "../shelf/first", "first/", "/first", "first/../second", "fir\0st", "none", "link", "a" * 300],
)
def test_no_name_leaves_the_folder(loaded, shelf, package, name):
    link = shelf / "link"
    link.symlink_to(package / "adapters" / "travel")
    try:
        assert "there is no folder" in refusal(loaded, name)
        assert "there is no folder" in refusal(loaded, str(shelf / "first"))
    finally:
        link.unlink()


@pytest.mark.parametrize("file", ["adapter.json", "adapter.onnx_adapter"])
def test_no_file_of_an_adapter_is_a_link_or_a_pipe(loaded, folder, file):
    original = (folder / file).rename(folder / "original")
    (folder / file).symlink_to(original)
    assert "is a link" in refusal(loaded, "changed")
    (folder / file).unlink()
    os.mkfifo(folder / file)
    assert "no plain file" in refusal(loaded, "changed")
    (folder / file).unlink()
    assert f"{file} in changed cannot be read (No such file or directory)" in refusal(loaded, "changed")


@pytest.mark.parametrize("name", ["base", "trips", "a b", "a/b", "a\nb", "-a"])
def test_an_adapter_has_a_name_that_can_be_its_own(loaded, name):
    assert "no adapter can be called" in refusal(loaded, "first", name)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"base_sha256": "1" * 64}, "changed/adapter.json is of another base model (111111111111)"),
        ({"file_sha256": "1" * 64}, "changed/adapter.onnx_adapter is not the file"),
        ({"file_sha256": None}, "changed/adapter.onnx_adapter is not the file"),
        ({"template": "{prompt}"}, "changed/adapter.json is damaged"),
        ({"response_schema": {"propertyNames": {}}}, "cannot be held to the response schema of changed"),
        ({"generation": {"top_p": 2}}, "top_p is 2"),
    ],
)
def test_an_adapter_that_cannot_be_served_is_refused(loaded, folder, changes, why):
    path = folder / "adapter.json"
    files.write_json(path, files.read_json(path) | changes)
    said = refusal(loaded, "changed")
    assert why in said
    assert "/tmp" not in said


def test_a_file_that_is_no_adapter_of_this_model_is_refused(loaded, folder):
    file = folder / "adapter.onnx_adapter"
    file.write_bytes(b"no adapter")
    path = folder / "adapter.json"
    files.write_json(path, files.read_json(path) | {"file_sha256": files.sha256(file)})
    assert "cannot be loaded" in refusal(loaded, "changed")
    (folder / "genai_config.json").touch()
    assert "is a whole model" in refusal(loaded, "changed")


def test_another_version_takes_the_place_of_one_while_an_answer_is_given_with_it(loaded):
    loaded.load_adapter("hotels", "first")
    expected = [answer(loaded, each) for each in ("hotels", "packing")]
    assert len(set(expected)) == 2
    first = weakref.ref(loaded.adapters["hotels"])
    begun = loaded.turns(loaded.read(asked("hotels")))
    written = next(begun) + next(begun)
    loaded.load_adapter("hotels", "second")
    assert answer(loaded, "hotels") == expected[1]
    loaded.unload_adapter("hotels")
    with pytest.raises(RefusedError, match="no model 'hotels'"):
        loaded.read(asked("hotels"))
    assert written + "".join(begun) == expected[0]
    del begun
    gc.collect()
    assert first() is None


def test_what_is_written_into_the_folder_afterwards_changes_nothing(loaded, folder):
    loaded.load_adapter("hotels", "changed")
    before = answer(loaded, "hotels")
    with (folder / "adapter.onnx_adapter").open("r+b") as file:
        file.truncate(10)
    assert answer(loaded, "hotels") == before
    loaded.unload_adapter("hotels")


def test_a_body_is_a_request_for_an_adapter_or_refused():
    assert wire.parse(json.dumps({"name": "a", "folder": None}).encode(), wire.AdapterRequest).folder == ""
    with pytest.raises(RefusedError, match="path is no parameter"):
        wire.parse(json.dumps({"name": "a", "path": "/etc"}).encode(), wire.AdapterRequest)


def test_a_folder_that_is_none_is_refused_at_the_start(tmp_path):
    with pytest.raises(UserError, match=r"--adapters .*none is no folder"):
        Shelf(tmp_path / "none")
