"""Push the cached outputs to the DVC remote, and prove that they are there; pull them back.

    python -m press.release.storage push       (`make push`)
    python -m press.release.storage pull       (`make pull`)

DVC takes a folder on the remote for whole when it sees its `.dir` object, and waits for a dead server for minutes.
So a push has a time limit and is tried three times, and then every object that dvc.lock refers to, each member of
each folder included, is read back from the remote and its MD5 compared. What is missing or damaged is pushed again.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from press.core import shell
from press.core.errors import UserError
from press.release import bounded

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB

REMOTE = "the remote"
TRIES = 3
REACH_SECONDS = 60
CHUNK = 1 << 20
READERS = 8


def push(seconds: float) -> None:
    """Push all cached outputs and verify that the remote has them, whole.

    :param seconds: time limit of each try, and of reading everything back
    :raises UserError: if the remote cannot be reached or written to, or has not all after three tries
    """
    _reach(seconds)
    for attempt in range(1, TRIES + 1):
        reason = _try(seconds)
        if not reason:
            return
        print(f"try {attempt} of {TRIES}: {reason}", flush=True)
    raise UserError(f"the outputs are not on the remote: {reason}; check the network, the login and `dvc remote list`")


def describe(seconds: float) -> str:
    """Say in a line where the outputs go, and how many bytes they are.

    :param seconds: time limit
    :raises UserError: if there is no default remote, or it does not answer
    """
    name, url, count, size = _reach(seconds)
    return f"{name} at {url}: {count} outputs of {size / 1e6:.1f} MB, less what is there already"


def _try(seconds: float) -> str | None:
    """Push and verify; return why the remote has not all."""
    reason = _dvc(["push"], seconds)
    try:
        # After a failure too: what is damaged on the remote keeps DVC from pushing, until it is removed.
        wrong = bounded.call(verify, seconds=seconds, whom=REMOTE)
    except UserError as error:
        return reason or str(error)
    return reason or f"{', '.join(wrong)} not whole on the remote" if wrong else None


def pull(seconds: float) -> None:
    """Bring back all outputs that dvc.lock names.

    :param seconds: time limit
    :raises UserError: if the remote cannot be reached or has not all of them
    """
    _reach(seconds)
    reason = _dvc(["pull"], seconds)
    if reason:
        raise UserError(f"the outputs could not be pulled: {reason}")


def _reach(seconds: float) -> tuple[str, str, int, int]:
    """Refuse a remote that is not named or does not answer, which DVC alone would find out after minutes."""
    found = bounded.call(reach, seconds=min(seconds, REACH_SECONDS), whom=REMOTE)
    if not found:
        raise UserError("there is no default remote: `dvc remote add --default storage URL`")
    return found


def _dvc(words: list[str], seconds: float) -> str | None:
    """Run a DVC command, its progress shown, and return why it failed."""
    return shell.run(sys.executable, "-m", "dvc", *words, seconds=seconds, shown="output").reason or None


def reach() -> tuple[str, str, int, int] | None:
    """Return the default remote's name and place, if it answers, and the number and bytes of the cached outputs."""
    from dvc.repo import Repo

    with Repo() as repo:
        name = repo.config["core"].get("remote")
        if not name:
            return None
        remote = repo.cloud.get_remote_odb()
        remote.fs.exists(remote.path)
        outs = [out for out in repo.index.outs if out.use_cache and out.hash_info]
        return name, remote.path, len(outs), sum(out.meta.size or 0 for out in outs)


def verify() -> list[str]:
    """Read every object that dvc.lock refers to from the remote; return the outputs that are not whole there.

    A damaged object is removed, as is the `.dir` object of a folder with a missing or damaged member, without which
    the next push looks at each member.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        remote = repo.cloud.get_remote_odb()
        wrong = []
        for path, oid in _cached(repo):
            print(f"verifying {path}", file=sys.stderr, flush=True)
            if not _is_whole(remote, oid):
                wrong.append(path)
        return wrong


def _cached(repo: "Repo") -> Iterator[tuple[str, str]]:
    for out in repo.index.outs:
        if out.use_cache and out.hash_info:
            yield os.path.relpath(out.fs_path, repo.root_dir), out.hash_info.value


def _is_whole(remote: "HashFileDB", oid: str) -> bool:
    content = _sound(remote, oid)
    if content is None or not oid.endswith(".dir"):
        return content is not None
    members = sorted({member["md5"] for member in json.loads(content)})
    with ThreadPoolExecutor(READERS) as readers:
        sound = list(readers.map(lambda member: _sound(remote, member) is not None, members))
    if not all(sound):
        remote.fs.rm(remote.oid_to_path(oid))
    return all(sound)


def _sound(remote: "HashFileDB", oid: str) -> bytes | None:
    """Return an object's content if it is a folder's list, b"" if it is a file, and None if it is not sound."""
    path, digest, kept = remote.oid_to_path(oid), hashlib.md5(usedforsecurity=False), []
    try:
        with remote.fs.open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                if oid.endswith(".dir"):
                    kept.append(chunk)
    except FileNotFoundError:
        return None
    if digest.hexdigest() != oid.removesuffix(".dir"):
        remote.fs.rm(path)
        return None
    return b"".join(kept)


def main(verb: str, seconds: float) -> None:
    """Run one of the commands."""
    if verb == "push":
        push(seconds)
        print("the remote has all outputs, each with the digest that dvc.lock names")
    else:
        pull(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("push", "pull"))
    parser.add_argument("--seconds", type=float, default=1800, help="time limit of each step (default: 1800)")
    words = parser.parse_args()
    try:
        main(words.verb, words.seconds)
    except UserError as error:
        sys.exit(f"error: {error}")
