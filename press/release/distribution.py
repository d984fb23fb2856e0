"""A client of one repository in a registry of OCI artifacts: blobs, manifests, tags and referrers.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md

What `oras` has is taken as it is. What it has not is added here: a file is sent without reading it whole, what comes is
compared with its digest, a manifest has the bytes that its digest names, and there are lists of referrers.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests

from press.core.errors import UserError
from press.release.connection import CHUNK, LARGEST, Answer, Body, Connection

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
EMPTY_CONTENT = b"{}"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Of a list, each of which has a thousand entries or, as some registries have it, a hundred.
PAGES = 100
# How often a list of referrers is written before it gives way to others.
WRITES = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Manifest:
    """A manifest, with the bytes that its digest names."""

    content: bytes
    digest: str
    value: dict[str, Any]

    @property
    def annotations(self) -> dict[str, str]:
        annotations = self.value.get("annotations")
        return {key: str(value) for key, value in annotations.items()} if isinstance(annotations, dict) else {}

    @property
    def subject(self) -> object:
        """The digest of what it refers to."""
        subject = self.value.get("subject")
        return subject.get("digest") if isinstance(subject, dict) else None

    def listed(self, key: str) -> list[dict]:
        """Return the objects of one of its lists."""
        return _all(dict, self.value.get(key))


def encoded(value: object) -> bytes:
    """Return a value as JSON that has the same bytes again."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(media_type: str, content: bytes, **more: object) -> dict:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


class Repository(Connection):
    """What a repository holds."""

    def tags(self) -> list[str]:
        """Return all tags; none if there is no such repository yet."""
        pages = self._pages(self.container.tags_url(1000), "application/json") or []
        return [tag for page in pages for tag in _all(str, page.get("tags"))]

    def manifest(self, reference: str) -> Manifest | None:
        """Return the manifest that a tag or digest names, or None if there is none, or not the one of that digest."""
        answer, content = self._small(self._url(self.container.manifest_url(reference)), Accept=f"{MANIFEST}, {INDEX}")
        if answer.status_code == 404:
            return None
        manifest = Manifest(content, digest_of(content), self._json(answer.url, content))
        return None if DIGEST.fullmatch(reference) and manifest.digest != reference else manifest

    def put_manifest(self, content: bytes, reference: str, media_type: str = MANIFEST) -> Answer:
        """Write a manifest, under a tag or its digest."""
        url = self._url(self.container.manifest_url(reference))
        with self.do_request(url, "PUT", data=content, headers={"Content-Type": media_type}) as answer:
            return answer

    def has(self, digest: str) -> bool:
        """Whether the registry says that it has a blob."""
        return self.blob_exists({"digest": digest}, self.container)

    def upload(self, digest: str, size: int, content: Callable[[], Iterator[bytes]]) -> None:
        """Send a blob.

        :param content: returns its bytes, as often as they are asked for
        """
        with self.do_request(self._url(self.container.upload_blob_url()), "POST") as began:
            place = self._get_location(began, self.container)
        with self._sentences():
            url = str(requests.Request("PUT", place, params={"digest": digest}).prepare().url)
        headers, body = {"Content-Type": "application/octet-stream"}, Body(size, lambda: self._in_time(content()))
        self.do_request(url, "PUT", data=body, headers=headers).close()

    def upload_bytes(self, content: bytes) -> None:
        """Send a small blob, unless it is there."""
        digest = digest_of(content)
        if not self.has(digest):
            self.upload(digest, len(content), lambda: iter([content]))

    def download(self, layer: dict, write: Callable[[bytes], object]) -> bool:
        """Hand on the bytes of a blob; return whether they are those that its digest names.

        A missing blob is not, nor one that is larger than its descriptor says.
        """
        came, left = hashlib.sha256(), layer["size"]
        with self.get_blob(self.container, layer["digest"], stream=True) as answer, self._sentences():
            if answer.status_code == 404:
                return False
            for chunk in self._in_time(answer.iter_content(CHUNK)):
                left -= len(chunk)
                if left < 0:
                    return False
                came.update(chunk)
                write(chunk)
        return layer["digest"] == f"sha256:{came.hexdigest()}"

    def small_blob(self, layer: dict) -> bytes | None:
        """Return the bytes of a small blob, or None if it is missing, damaged or large."""
        if not is_descriptor(layer) or layer["size"] > LARGEST:
            return None
        content = bytearray()
        return bytes(content) if self.download(layer, content.extend) else None

    def referrers(self, digest: str) -> list[dict]:
        """Return the descriptors of what refers to a manifest, from the registry's own list or that of its tag."""
        pages = self._pages(f"{self.registry}/v2/{self.container.api_prefix}/referrers/{digest}", INDEX)
        if pages is not None:
            return [each for page in pages for each in _all(dict, page.get("manifests"))]
        listed = self.manifest(_list_tag(digest))
        return listed.listed("manifests") if listed else []

    def refer(self, subject: Manifest, media_type: str, content: bytes, annotations: dict[str, str]) -> None:
        """Attach a file to a manifest, as an artifact that refers to it.

        :param media_type: of the file, and the type of the artifact
        """
        for each in (content, EMPTY_CONTENT):
            self.upload_bytes(each)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": media_type,
            "config": descriptor(EMPTY, EMPTY_CONTENT),
            "layers": [descriptor(media_type, content)],
            "subject": descriptor(MANIFEST, subject.content),
            "annotations": annotations,
        }
        referrer = encoded(manifest)
        answer = self.put_manifest(referrer, digest_of(referrer))
        # A registry that keeps the list itself says so.
        if "OCI-Subject" not in answer.headers:
            entry = descriptor(MANIFEST, referrer, artifactType=media_type, annotations=annotations)
            self._list(subject.digest, entry)

    def _list(self, digest: str, entry: dict) -> None:
        """Write a referrer into the list that a tag names, where somebody else may just write another one."""
        for _ in range(WRITES):
            began = time.monotonic()
            entries = self.referrers(digest)
            if entry in entries:
                return
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*entries, entry]}
            self.put_manifest(encoded(index), _list_tag(digest), INDEX)
            # Who read the list before this was written may still write: it takes them about as long as it took here.
            time.sleep(time.monotonic() - began)
        raise UserError(f"what refers to {digest} in {self.where} is written by others just now: run this again")

    def _pages(self, path: str, accept: str) -> list[dict] | None:
        """Return all pages of a list, or None if the registry has no such list."""
        pages, url = [], self._url(path)
        for _ in range(PAGES):
            answer, content = self._small(url, Accept=accept)
            if answer.status_code == 404:
                return pages or None
            pages.append(self._json(answer.url, content))
            following = answer.links.get("next", {}).get("url")
            if not following:
                return pages
            url = self._joined(answer.url, following)
        raise UserError(f"{self.where} answered {path} with more than {PAGES} pages: is it a registry?")

    def _url(self, path: str) -> str:
        return f"{self.prefix}://{path}"


def file_content(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def is_descriptor(layer: dict) -> bool:
    """Whether it names a blob by its digest and size."""
    size = layer.get("size")
    return DIGEST.fullmatch(str(layer.get("digest"))) is not None and type(size) is int and size >= 0


def _all(kind: type[T], values: object) -> list[T]:
    """Return what is of a type in what should be a list."""
    return [each for each in values if isinstance(each, kind)] if isinstance(values, list) else []


def _list_tag(digest: str) -> str:
    """Return the tag of a list of referrers, for registries that keep none themselves."""
    return digest.replace(":", "-")
