"""The outputs that DVC keeps, and whether their bytes are those that dvc.lock and the .dvc files name.

DVC itself compares little: it believes an object by its name, and a file by its size and times.
"""

import hashlib
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB

REMOTE, CACHE = "the remote", "DVC's cache"
CHUNK = 1 << 20
READERS = 8
# Names of files in one sentence.
SHOWN = 5


@dataclass(frozen=True)
class Cached:
    """An output that DVC keeps: what makes it, its path, and the MD5 that dvc.lock names."""

    maker: str
    path: str
    oid: str


def verify(where: str) -> dict[Cached, list[str]]:
    """Read every object that dvc.lock refers to; return all outputs with the files of each that are not whole.

    A damaged object is removed, as is the `.dir` object of a folder with a missing or damaged member, without which
    the next push or fetch looks at each member.

    :param where: REMOTE or CACHE
    """
    from dvc.repo import Repo

    with Repo() as repo:
        place = repo.cloud.get_remote_odb() if where == REMOTE else repo.cache.local
        verified = {}
        for out in map(_described, _kept(repo)):
            print(f"verifying {out.path}", file=sys.stderr, flush=True)
            verified[out] = _unsound(place, out)
        return verified


def targets(outs: list[Cached]) -> list[str]:
    """Return what to name to DVC for some outputs: the files that have all of theirs among them, and else their paths.

    For each path that it is given, DVC reads dvc.yaml once more.
    """
    from dvc.repo import Repo

    of_files: defaultdict[str, set[Cached]] = defaultdict(set)
    with Repo() as repo:
        for out in repo.index.outs:
            if out.use_cache:
                of_files[out.stage.path_in_repo].add(_described(out))
    whole = {file: there for file, there in of_files.items() if there <= {*outs}}
    return sorted([*whole, *(out.path for out in {*outs}.difference(*whole.values()))])


def names(unsound: dict[Cached, list[str]]) -> str:
    """Return the names of what is not whole, the first ones of many."""
    each = [name for wrong in unsound.values() for name in wrong]
    return ", ".join(each[:SHOWN]) + (f" and {len(each) - SHOWN} more" if len(each) > SHOWN else "")


def false() -> list[Cached]:
    """Return the outputs here that DVC takes for what is named, and that are not, when every byte is read."""
    with tempfile.TemporaryDirectory() as memory:
        modified = _modified({"core": {"site_cache_dir": memory}})
    return [out for out in modified if out not in _modified({})] if modified else []


def _modified(config: dict) -> list[Cached]:
    """Return the outputs that are here, but with other bytes.

    :param config: of DVC, above its own
    """
    from dvc.repo import Repo

    with Repo(config=config) as repo:
        return [_described(out) for out in _kept(repo) if out.exists and out.changed_checksum()]


def _kept(repo: "Repo") -> Iterator["Output"]:
    return (out for out in repo.index.outs if out.use_cache and out.hash_info)


def _described(out: "Output") -> Cached:
    return Cached(out.stage.addressing, os.path.relpath(out.fs_path, out.repo.root_dir), out.hash_info.value)


def _unsound(place: "HashFileDB", out: Cached) -> list[str]:
    """Return the files of an output that are missing or damaged in a place."""
    content = _sound(place, out.oid)
    if content is None:
        return [out.path]
    if not out.oid.endswith(".dir"):
        return []
    members = json.loads(content)
    digests = sorted({member["md5"] for member in members})
    with ThreadPoolExecutor(READERS) as readers:
        sound = dict(zip(digests, readers.map(lambda oid: _sound(place, oid) is not None, digests), strict=True))
    wrong = [f"{out.path}/{member['relpath']}" for member in members if not sound[member["md5"]]]
    if wrong:
        place.fs.rm(place.oid_to_path(out.oid))
    return wrong


def _sound(place: "HashFileDB", oid: str) -> bytes | None:
    """Return an object's content if it is a folder's list, b"" if it is a file, and None if it is not sound."""
    path, digest, kept = place.oid_to_path(oid), hashlib.md5(usedforsecurity=False), []
    try:
        with place.fs.open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                if oid.endswith(".dir"):
                    kept.append(chunk)
    except FileNotFoundError:
        return None
    if digest.hexdigest() != oid.removesuffix(".dir"):
        place.fs.rm(path)
        return None
    return b"".join(kept)
