"""A registry of OCI artifacts in memory, for tests that ask it often; container_registry.py has a real one."""

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx2
import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPResponse


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Adapter(BaseAdapter):
    """Gives a client's requests to a function in the place of the network.

    :param answer: by httpx2's types, which are made more easily
    """

    def __init__(self, answer: Callable[[httpx2.Request], httpx2.Response]) -> None:
        super().__init__()
        self._answer = answer

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        body = request.body or b""
        content = body if isinstance(body, str | bytes) else b"".join(body)
        asked = httpx2.Request(str(request.method), str(request.url), headers=dict(request.headers), content=content)
        given = self._answer(asked)
        raw: Any = HTTPResponse(BytesIO(given.read()), given.headers, given.status_code, preload_content=False)
        return HTTPAdapter().build_response(request, raw)

    def close(self) -> None:
        pass


class Killed(BaseException):
    """As kill -9: nothing of the program runs any more."""


class MemoryRegistry:
    """What answers the requests of a client by `Adapter`; it keeps no list of referrers."""

    def __init__(self) -> None:
        # By their digests; a manifest is one of them, as in a registry's storage.
        self.blobs: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        # Method, last but one and last part of the path of each request.
        self.asked: list[tuple[str, str, str]] = []
        # Sees each request before it is answered and after; it may raise, or wait.
        self.before: Callable[[tuple[str, str, str]], object] = lambda _: None
        self.after: Callable[[tuple[str, str, str]], object] = lambda _: None

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        *_, kind, name = request.url.path.rstrip("/").split("/")
        asked = request.method, kind, request.url.params.get("digest", name)
        self.asked.append(asked)
        self.before(asked)
        answer = self._answer(request, *asked)
        self.after(asked)
        return answer

    def manifest(self, tag: str) -> dict:
        """Return the manifest that a tag names."""
        return json.loads(self.blobs[self.tags[tag]])

    def put(self, tag: str, manifest: dict) -> None:
        """Let a tag name a manifest, as whoever may write to the registry can."""
        content = json.dumps(manifest).encode()
        self.tags[tag] = digest_of(content)
        self.blobs[digest_of(content)] = content

    def sent(self) -> list[str]:
        """Return the digests of the blobs that were sent, and forget all that was asked."""
        found = [name for method, kind, name in self.asked if (method, kind) == ("PUT", "uploads")]
        self.asked.clear()
        return found

    def _answer(self, request: httpx2.Request, method: str, kind: str, name: str) -> httpx2.Response:
        match method, kind:
            case "POST", "blobs":
                return httpx2.Response(202, headers={"Location": f"{request.url.path}1"})
            case "PUT", "uploads":
                content = request.read()
                # Like Debian's, it keeps what it has.
                self.blobs.setdefault(request.url.params["digest"], content)
                return httpx2.Response(201)
            case "PUT", "manifests":
                content = request.read()
                self.blobs.setdefault(digest_of(content), content)
                if not name.startswith("sha256:"):
                    self.tags[name] = digest_of(content)
                return httpx2.Response(201)
            case "GET", "tags":
                return httpx2.Response(200, json={"tags": sorted(self.tags)})
            case "GET" | "HEAD", "blobs" | "manifests":
                content = self.blobs.get(self.tags.get(name, name))
                return httpx2.Response(404) if content is None else httpx2.Response(200, content=content)
        return httpx2.Response(404)
