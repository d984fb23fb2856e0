"""A client of one repository in a registry of OCI artifacts: blobs, manifests, tags and referrers.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md

`oras` for Python has no time limits, tries whatever fails six times in two minutes, reads a whole file into memory to
send it, does not compare what comes with its digest, and cannot list referrers. So the few calls are made here.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import parse_http_list, parse_keqv_list

import httpx2

from press.core.errors import UserError
from press.release import docker_login

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
EMPTY_CONTENT = b"{}"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Seconds to wait for each answer.
ANSWER_SECONDS = 30
# What a registry says that is busy or being restarted, how often it is asked, and the seconds between.
BUSY, TRIES, PAUSE = (429, 502, 503, 504), 3, 1.0
CHUNK = 1 << 20
# Registries take no larger manifest; a file that is read into memory may have as much.
LARGEST = 4 << 20
# How often a list of referrers is written before it gives way to others.
WRITES = 5

Content = Callable[[], bytes | Iterator[bytes]]


@dataclass(frozen=True)
class Manifest:
    """A manifest, with the bytes that its digest names."""

    content: bytes
    digest: str
    value: dict[str, Any]

    @property
    def annotations(self) -> dict[str, str]:
        found = self.value.get("annotations")
        return {key: str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    @property
    def subject(self) -> object:
        """The digest of what it refers to."""
        found = self.value.get("subject")
        return found.get("digest") if isinstance(found, dict) else None

    def listed(self, key: str) -> list[dict]:
        """Return the objects of one of its lists."""
        return _objects(self.value.get(key))


@dataclass(frozen=True)
class Answer:
    """What a registry answered, all of it."""

    url: str
    status: int
    headers: httpx2.Headers
    content: bytes
    # The address of the next page of a list.
    next: str


def encoded(value: object) -> bytes:
    """Return a value as JSON that has the same bytes again."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(media_type: str, content: bytes, **more: object) -> dict:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


class Repository:
    """A repository in a registry, which is asked by HTTPS.

    :param seconds: time limit of each step, which `begin` starts
    :param transport: of HTTP; the network by default
    """

    def __init__(
        self, registry: str, repository: str, seconds: float, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self.registry, self.name, self.seconds = registry, repository, seconds
        self.where = f"{registry}/{repository}"
        self._origin = httpx2.URL(f"https://{registry}")
        self._login = docker_login.find(registry)
        self._authorization = ""
        self._client = httpx2.Client(timeout=min(seconds, ANSWER_SECONDS), transport=transport)
        self.begin()

    def begin(self) -> None:
        """Start the time of a step."""
        self._end = time.monotonic() + self.seconds

    def tags(self) -> list[str]:
        """Return all tags; none if there is no such repository yet."""
        found, url = [], self._url("tags/list?n=1000")
        while url:
            answer = self._answer("GET", url, 200, 404)
            if answer.status == 404:
                break
            found += self._json(answer.url, answer.content).get("tags") or []
            url = urljoin(answer.url, answer.next) if answer.next else ""
        return found

    def manifest(self, reference: str) -> Manifest | None:
        """Return the manifest that a tag or digest names, or None.

        :raises UserError: if it is not what its digest says
        """
        answer = self._answer("GET", self._url(f"manifests/{reference}"), 200, 404, Accept=f"{MANIFEST}, {INDEX}")
        if answer.status == 404:
            return None
        found = Manifest(answer.content, digest_of(answer.content), self._json(answer.url, answer.content))
        if DIGEST.fullmatch(reference) and found.digest != reference:
            raise UserError(f"the manifest {reference} of {self.where} is damaged there: publish it again")
        return found

    def put_manifest(self, content: bytes, reference: str, media_type: str = MANIFEST) -> Answer:
        """Write a manifest, under a tag or its digest."""
        url = self._url(f"manifests/{reference}")
        return self._answer("PUT", url, 201, content=lambda: content, **{"Content-Type": media_type})

    def has(self, digest: str) -> bool:
        """Whether the registry says that it has a blob."""
        return self._answer("HEAD", self._url(f"blobs/{digest}"), 200, 404).status == 200

    def upload(self, digest: str, size: int, content: Content) -> None:
        """Send a blob.

        :param content: returns its bytes, as often as they are asked for
        """
        began = self._answer("POST", self._url("blobs/uploads/"), 202, content=lambda: b"")
        place = httpx2.URL(urljoin(began.url, began.headers.get("Location", "")))
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        url = str(place.copy_merge_params({"digest": digest}))
        self._answer("PUT", url, 201, content=lambda: self._in_time(content()), **headers)

    def upload_bytes(self, content: bytes) -> None:
        """Send a small blob, unless it is there."""
        digest = digest_of(content)
        if not self.has(digest):
            self.upload(digest, len(content), lambda: content)

    def download(self, digest: str, write: Callable[[bytes], object]) -> bool:
        """Hand on the bytes of a blob; return whether they are those that its digest names. A missing blob is not."""
        came = hashlib.sha256()
        with self._streamed("GET", self._url(f"blobs/{digest}"), 200, 404) as answer, self._sentences():
            if answer.status_code == 404:
                return False
            for chunk in self._in_time(answer.iter_bytes(CHUNK)):
                came.update(chunk)
                write(chunk)
        return digest == f"sha256:{came.hexdigest()}"

    def small_blob(self, layer: dict) -> bytes | None:
        """Return the bytes of a small blob, or None if it is missing, damaged or large."""
        if not isinstance(layer.get("size"), int) or layer["size"] > LARGEST:
            return None
        found = bytearray()
        return bytes(found) if self.download(str(layer.get("digest")), found.extend) else None

    def referrers(self, digest: str) -> list[dict]:
        """Return the descriptors of what refers to a manifest, from the registry's own list or that of its tag."""
        answer = self._answer("GET", self._url(f"referrers/{digest}"), 200, 404, Accept=INDEX)
        if answer.status == 200:
            return _objects(self._json(answer.url, answer.content).get("manifests"))
        listed = self.manifest(_list_tag(digest))
        return listed.listed("manifests") if listed else []

    def refer(self, subject: Manifest, media_type: str, content: bytes, annotations: dict[str, str]) -> None:
        """Attach a file to a manifest, as an artifact that refers to it.

        :param media_type: of the file, and the type of the artifact
        """
        for each in (content, EMPTY_CONTENT):
            self.upload_bytes(each)
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": media_type,
            "config": descriptor(EMPTY, EMPTY_CONTENT),
            "layers": [descriptor(media_type, content)],
            "subject": descriptor(MANIFEST, subject.content),
            "annotations": annotations,
        }
        referrer = encoded(value)
        answer = self.put_manifest(referrer, digest_of(referrer))
        # A registry that keeps the list itself says so.
        if "OCI-Subject" not in answer.headers:
            entry = descriptor(MANIFEST, referrer, artifactType=media_type, annotations=annotations)
            self._list(subject.digest, entry)

    def _list(self, digest: str, entry: dict) -> None:
        """Write a referrer into the list that a tag names, where somebody else may just write another one."""
        for _ in range(WRITES):
            found = self.referrers(digest)
            if entry in found:
                return
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*found, entry]}
            self.put_manifest(encoded(index), _list_tag(digest), INDEX)
        raise UserError(f"what refers to {digest} in {self.where} is written by others just now: run this again")

    def _url(self, path: str) -> str:
        return f"https://{self.registry}/v2/{self.name}/{path}"

    def _json(self, url: object, content: bytes) -> dict:
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{self.registry} answered {url} with what is no JSON object: is it a registry?")
        return found

    def _in_time(self, chunks: bytes | Iterator[bytes]) -> Iterator[bytes]:
        """Yield what comes or goes, until the step's time is up."""
        for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
            self._check_time()
            yield chunk

    def _check_time(self) -> None:
        if time.monotonic() > self._end:
            raise UserError(self._late(self.seconds))

    def _late(self, seconds: float) -> str:
        return f"{self.registry} gave no answer in {seconds:.0f} s: check the network, then run this again"

    def _answer(self, method: str, url: str, *expected: int, content: Content | None = None, **headers: str) -> Answer:
        """Ask and return the whole answer, which is small."""
        with self._streamed(method, url, *expected, content=content, **headers) as answer, self._sentences():
            came = bytearray()
            for chunk in self._in_time(answer.iter_bytes(CHUNK)):
                came += chunk
                if len(came) > LARGEST:
                    raise UserError(f"{self.registry} answered {url} with more than {LARGEST} bytes: is it a registry?")
            following = answer.links.get("next", {}).get("url", "")
            return Answer(str(answer.url), answer.status_code, answer.headers, bytes(came), following)

    @contextmanager
    def _streamed(
        self, method: str, url: str, *expected: int, content: Content | None = None, **headers: str
    ) -> Iterator[httpx2.Response]:
        """Ask, logging in where the registry wants it and again when it is busy; yield an answer that was expected."""
        logged_in, tries = False, 1
        while True:
            answer = self._sent(method, url, content, headers)
            try:
                challenged = answer.status_code == 401 and self._is_registry(answer.url)
                if challenged and not logged_in and self._log_in(answer):
                    logged_in = True
                elif answer.status_code in BUSY and tries < TRIES:
                    time.sleep(PAUSE * tries)
                    tries += 1
                elif answer.status_code in expected:
                    yield answer
                    return
                else:
                    raise UserError(self._refused(answer))
            finally:
                answer.close()

    def _sent(self, method: str, url: str, content: Content | None, headers: dict[str, str]) -> httpx2.Response:
        self._check_time()
        # An upload may be sent elsewhere: whoever that is does not get the login.
        if self._authorization and self._is_registry(httpx2.URL(url)):
            headers = {**headers, "Authorization": self._authorization}
        # A registry may compare a large file, and put it in its place, before it answers.
        wait = self._end - time.monotonic() if method == "PUT" else ANSWER_SECONDS
        limit = httpx2.Timeout(min(self.seconds, ANSWER_SECONDS), read=max(min(self.seconds, wait), 0))
        body = content() if content else None
        with self._sentences():
            request = self._client.build_request(method, url, headers=headers, content=body, timeout=limit)
            return self._client.send(request, stream=True, follow_redirects=method in ("GET", "HEAD"))

    def _is_registry(self, url: httpx2.URL) -> bool:
        return (url.scheme, url.host, url.port) == (self._origin.scheme, self._origin.host, self._origin.port)

    def _log_in(self, answer: httpx2.Response) -> bool:
        """Do what a registry asks for with the answer 401; return whether there is a new login to try."""
        scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        before = self._authorization
        if scheme.lower() == "bearer":
            asked = parse_keqv_list(parse_http_list(rest))
            self._authorization = f"Bearer {self._token(asked)}"
        elif scheme.lower() == "basic" and self._login.password:
            self._authorization = self._login.basic
        return self._authorization != before

    def _token(self, asked: dict[str, str]) -> str:
        """Get a token from where a registry says, which lasts for minutes."""
        realm = httpx2.URL(asked.get("realm", ""))
        if realm.scheme != "https":
            raise UserError(f"{self.registry} wants a login at {realm}, which is not https: no password goes there")
        words = {name: asked[name] for name in ("service", "scope") if name in asked}
        with self._sentences():
            if self._login.refresh_token:
                form = {**words, "grant_type": "refresh_token", "refresh_token": self._login.refresh_token}
                answer = self._client.post(realm, data={**form, "client_id": "olive-press"})
            else:
                headers = {"Authorization": self._login.basic} if self._login else {}
                answer = self._client.get(realm.copy_merge_params(words), headers=headers)
        if answer.status_code != 200:
            raise UserError(self._refused(answer))
        found = self._json(realm, answer.content)
        return str(found.get("token") or found.get("access_token") or "")

    def _refused(self, answer: httpx2.Response) -> str:
        """Say what a registry answered that was not expected."""
        reason = self._reason(answer)
        if answer.status_code in (401, 403) and not self._login:
            return (
                f"{self.registry} asks who you are{reason}: `docker login {self.registry}`, or set "
                f"{docker_login.USERNAME} and {docker_login.PASSWORD}"
            )
        if answer.status_code in (401, 403):
            verb = "read" if answer.request.method in ("GET", "HEAD") else "write"
            return f"{self.registry} does not let you {verb} {self.where}{reason}: log in as somebody who may"
        call = f"{answer.request.method} {answer.request.url.path}"
        return f"{self.where} answered {call} with {answer.status_code}{reason}: run this again, or ask who runs it"

    def _reason(self, answer: httpx2.Response) -> str:
        """Return the registry's own sentence, in brackets."""
        try:
            with self._sentences():
                answer.read()
            (error, *_) = answer.json()["errors"]
            return f" ({' '.join(str(error.get('message') or error['code']).split())})"
        except (ValueError, KeyError, TypeError, AttributeError):
            return ""

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TimeoutException as error:
            raise UserError(self._late(min(self.seconds, ANSWER_SECONDS))) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            mend = "let SSL_CERT_FILE name a file with the certificate of its CA, if you trust it"
            advice = mend if "CERTIFICATE" in reason.upper() else "check the network, then run this again"
            raise UserError(f"{self.registry} could not be asked: {reason}; {advice}") from error


def file_content(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _objects(found: object) -> list[dict]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _list_tag(digest: str) -> str:
    """Return the tag of a list of referrers, for registries that keep none themselves."""
    return digest.replace(":", "-")
