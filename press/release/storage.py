"""Push the cached outputs to the DVC remote, and prove that they are there; pull them back.

    python -m press.release.storage push       (`make push`)
    python -m press.release.storage pull       (`make pull`)

DVC takes a folder on the remote for whole when it sees its `.dir` object, and waits for a dead server for minutes.
So a push has a time limit and is tried three times, and then every object that dvc.lock refers to, each member of
each folder included, is read back from the remote and its MD5 compared. What is missing or damaged is pushed again.

DVC believes what it fetches, and from then on its own cache and what it checked out. So a pull compares every object in
the cache before it is checked out, and every output afterwards; what is wrong goes.
"""

import argparse
import sys
from pathlib import Path

from press.core import cli, dvc_files, files, shell
from press.core.errors import UserError
from press.core.redaction import redacted
from press.release import bounded, outputs, workspace
from press.release.outputs import CACHE, REMOTE, Cached

TRIES = 3
# Of each step, if nothing else is said.
SECONDS = 1800
REACH_SECONDS = 60


def push(seconds: float) -> None:
    """Push all cached outputs and verify that the remote, which answered just now, has them, whole.

    :param seconds: time limit of each try, and of reading everything back
    :raises UserError: if the remote cannot be written to, or has not all after three tries
    """
    reason = None
    for attempt in range(1, TRIES + 1):
        reason, wrong = _try(seconds)
        if not reason:
            return
        print(f"try {attempt} of {TRIES}: {reason}", flush=True)
        if lost := outputs.names(_lost(wrong, seconds)):
            raise UserError(
                f"the outputs are not on the remote: {lost} missing or damaged in {CACHE}, too, from where they would "
                "be pushed, and gone from there: `make repro` puts there what is whole here and builds the rest anew"
            )
    raise UserError(f"the outputs are not on the remote: {reason}; check the network, the login and `dvc remote list`")


def describe(seconds: float) -> str:
    """Say in a line where the outputs go, and how many bytes they are.

    :param seconds: time limit
    :raises UserError: if there is no default remote, or it does not answer
    """
    name, url, count, size = _reach(seconds)
    return f"{name} at {redacted(url)}: {count} outputs of {files.readable(size)}, less what is there already"


def _try(seconds: float) -> tuple[str | None, dict[Cached, list[str]]]:
    """Push and verify; return why the remote has not all, and what it has not."""
    reason = _dvc(["push"], seconds)
    try:
        # After a failure too: what is damaged on the remote keeps DVC from pushing, until it is removed.
        verified = bounded.call(outputs.verify, REMOTE, seconds=seconds, whom=REMOTE)
    except UserError as error:
        return reason or str(error), {}
    wrong = outputs.names(verified)
    return reason or f"{wrong} not whole on the remote" if wrong else None, verified


def _lost(wrong: dict[Cached, list[str]], seconds: float) -> dict[Cached, list[str]]:
    """Return what is whole neither on the remote nor in the cache, with the files that the cache has not."""
    if not any(wrong.values()):
        return {}
    here = bounded.call(outputs.verify, CACHE, seconds=seconds, whom=CACHE)
    return {out: names for out, names in here.items() if wrong.get(out)}


def pull(seconds: float) -> None:
    """Bring back all outputs that dvc.lock names, each with the digest that it names.

    :param seconds: time limit of each step
    :raises UserError: if the remote cannot be reached or has not all of them whole; the others are brought back
    """
    _reach(seconds)
    cache = bounded.Process(CACHE)
    try:
        _bring(cache, seconds)
    finally:
        cache.end()


def _bring(cache: bounded.Process, seconds: float) -> None:
    reason, verified = _fetch(cache, seconds)
    if outputs.names(verified):
        # What was wrong in the cache before is fetched only now that it is gone from there.
        reason, verified = _fetch(cache, seconds)
    sound = [out for out, wrong in verified.items() if not wrong]
    failed = _check_out(cache, sound, seconds)
    false = cache.call(outputs.false, seconds=seconds)
    for out in false:
        files.remove(Path(out.path))
        print(f"{out.path} was not what DVC took it for, and is removed", flush=True)
    if makers := [out.maker for out in false if not out.maker.endswith(".dvc")]:
        print(workspace.built_anew(makers), flush=True)
    failed = failed or _check_out(cache, [out for out in sound if out in false], seconds)
    if wrong := outputs.names(verified):
        raise UserError(
            f"{wrong} missing or damaged on the remote, and not brought back: `make push` where it is whole mends the "
            f"remote, or `dvc repro` builds it anew{f' ({reason})' if reason else ''}"
        )
    if failed or reason:
        raise UserError(f"the outputs could not be pulled: {failed or reason}")


def _fetch(cache: bounded.Process, seconds: float) -> tuple[str | None, dict[Cached, list[str]]]:
    """Fetch into the cache and compare what is there; return why DVC failed, and what is missing or was damaged."""
    return _dvc(["fetch"], seconds), cache.call(outputs.verify, CACHE, seconds=seconds)


def _check_out(cache: bounded.Process, outs: list[Cached], seconds: float) -> str | None:
    """Check outputs out of the cache; return why that failed."""
    return _dvc(["checkout", *cache.call(outputs.targets, outs, seconds=seconds)], seconds) if outs else None


def _reach(seconds: float) -> tuple[str, str, int, int]:
    """Refuse a remote that is not named or does not answer, which DVC alone would find out after minutes."""
    reached = bounded.call(reach, seconds=min(seconds, REACH_SECONDS), whom=REMOTE)
    if not reached:
        raise UserError("there is no default remote: `dvc remote add --default storage URL`")
    return reached


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


def main(verb: str, seconds: float) -> None:
    """Run one of the commands."""
    dvc_files.remove_unreadable_rwlock()
    dvc_files.recorded()
    if verb == "push":
        _reach(seconds)
        push(seconds)
        print("the remote has all outputs, each with the digest that dvc.lock names")
    else:
        pull(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("push", "pull"))
    parser.add_argument(
        "--seconds",
        type=bounded.time_limit,
        default=SECONDS,
        help="time limit of each step (default: %(default)s)",
    )
    words = parser.parse_args()
    cli.in_sentences(lambda: main(words.verb, words.seconds))
