"""The Hugging Face hub for tests, on loopback: what the hub's client needs of its REST API for models and data sets.

`Hub.environment` leads the real client here. Every repository has one revision, REVISION. As on the hub, small files
are in git; weights and other large files have a SHA-256 and lie in a store under another host name, which takes no
token, and to which the hub redirects.
"""

import hashlib
import json
import re
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

REVISION = "5" * 40
TOKEN = "hf_the_token_that_this_server_takes"
# What the hub keeps in git; larger files go to its large file storage.
GIT_LIMIT = 1 << 20

MODEL = r"/api/(?:models|datasets)/(?P<repo>[^/]+/[^/]+)"
ROUTES = {
    rf"{MODEL}/revision/(?P<revision>[^/]+)": "info",
    rf"{MODEL}/tree/(?P<revision>[^/]+)": "tree",
    r"(?:/datasets)?/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)": "resolve",
    r"/store/(?P<repo>[^/]+/[^/]+)/(?P<revision>[^/]+)/(?P<name>.+)": "store",
}


@dataclass
class Repository:
    """A model's repository.

    :param gated: whether its files need a token of somebody who accepted the terms
    """

    folder: Path
    gated: bool = False

    def entry(self, path: Path) -> dict:
        """Describe a file as the hub's listing of a tree does."""
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry = {"type": "file", "path": path.relative_to(self.folder).as_posix(), "size": len(content), "oid": blob}
        if path.suffix == ".safetensors" or len(content) > GIT_LIMIT:
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return entry


@dataclass
class Hub(AbstractContextManager):
    """The running server; `repositories` maps OWNER/MODEL to what it serves.

    :param requests: the path of each request
    :param sent: the name and the Range header of each file that was sent
    :param cut: after how many bytes of a large file the connection breaks, or None
    :param stalls: whether it falls silent there instead
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    sent: list[tuple[str, str | None]] = field(default_factory=list)
    cut: int | None = None
    stalls: bool = False

    def __post_init__(self) -> None:
        self.closed = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead a client here, past any proxy."""
        direct = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        return {"HF_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}", "HF_HUB_OFFLINE": "0", **direct}

    def weights(self) -> list[tuple[str, str | None]]:
        """Return the name and the Range header of each file of weights that was sent."""
        return [(name, span) for name, span in self.sent if name.endswith(".safetensors")]


class _Handler(BaseHTTPRequestHandler):
    """Answers the calls of ROUTES."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(url.path)
        if self.headers["Authorization"] not in (None, f"Bearer {TOKEN}"):
            return self.refuse(401, None, "Invalid credentials in Authorization header")
        for pattern, answer in ROUTES.items():
            if found := re.fullmatch(pattern, unquote(url.path)):
                return self.find(answer, **found.groupdict())
        return self.send_error(501)

    do_HEAD = do_GET  # noqa: N815 (the standard library's name)

    def find(self, answer: str, repo: str, revision: str, name: str | None = None) -> None:
        """Answer for a repository and a revision that are there."""
        repository = self.hub.repositories.get(repo)
        if repository is None:
            # The hub does not tell strangers what it has.
            return self.refuse(401, "RepoNotFound", "Repository not found")
        if revision != REVISION:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if name is None:
            entries = [repository.entry(path) for path in sorted(repository.folder.rglob("*")) if path.is_file()]
            return self.reply({"info": info(repo, entries), "tree": entries}[answer])
        if answer == "store":
            return self.store(repository.folder / name)
        return self.resolve(repository, repository.folder / name, repo)

    def resolve(self, repository: Repository, path: Path, repo: str) -> None:
        """Send a file, or say where it is stored."""
        if repository.gated and not self.headers["Authorization"]:
            return self.refuse(401, "GatedRepo", f"Access to model {repo} is restricted.")
        if not path.exists():
            return self.refuse(404, "EntryNotFound", "Entry not found")
        entry, headers = repository.entry(path), {"X-Repo-Commit": REVISION}
        if "lfs" not in entry:
            return self.send_file(path, None, {**headers, "ETag": f'"{entry["oid"]}"'})
        store = f"http://localhost:{self.hub.server.server_port}/store/{repo}/{REVISION}/{entry['path']}"
        linked = {"X-Linked-Size": str(entry["size"]), "X-Linked-ETag": f'"{entry["lfs"]["oid"]}"'}
        return self.begin(302, {**headers, **linked, "Location": store, "Content-Length": "0"})

    def store(self, path: Path) -> None:
        """Send a file from the store, as far as the connection is to hold."""
        if self.headers["Authorization"]:
            return self.refuse(400, None, "No token here")
        self.send_file(path, self.hub.cut, {})
        if self.hub.cut is not None:
            if self.hub.stalls:
                self.hub.closed.wait()
            self.close_connection = True
        return None

    def send_file(self, path: Path, end: int | None, headers: dict[str, str]) -> None:
        """Send a file from where the client wants it."""
        content = path.read_bytes()
        first = int(re.findall(r"\d+", self.headers["Range"] or "0")[0])
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self.begin(206 if first else 200, {**headers, "Content-Length": str(len(content) - first)})
        if self.command == "GET":
            self.hub.sent.append((path.name, self.headers["Range"]))
            self.wfile.write(content[first:end])

    def reply(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.begin(200, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        self.wfile.write(content)

    def refuse(self, status: int, code: str | None, message: str) -> None:
        """Refuse as the hub does: with the reason in headers."""
        reason = {"X-Error-Code": code} if code else {}
        self.begin(status, {**reason, "X-Error-Message": message, "Content-Length": "0"})

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep one line a request out of the tests' output."""


def info(repo: str, entries: list[dict]) -> dict:
    """Return what the hub says of a model when it is asked with `blobs=true`."""
    siblings = [
        {
            "rfilename": entry["path"],
            "size": entry["size"],
            "blobId": entry["oid"],
            **({"lfs": {"sha256": entry["lfs"]["oid"], **entry["lfs"]}} if "lfs" in entry else {}),
        }
        for entry in entries
    ]
    return {"id": repo, "sha": REVISION, "siblings": siblings, "tags": [], "private": False, "downloads": 0}
