"""DVC whose run cache is the remote's: a stage that any machine has run with the same inputs comes from there.

DVC copies a remote's whole run cache to and fro (its issue 10449), so that each trial would take longer than the one
before. Here a stage that is reached is looked up there by itself, and put there, with its outputs, when it ends.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from dvc.stage import Stage
from dvc.stage.cache import StageCache, _can_hash, _get_cache_hash, _get_stage_hash
from dvc.stage.serialize import to_single_stage_lockfile

from press.cluster import job
from press.search import cached_dvc

# Begins the line that says that a stage's run is on the remote; its name follows.
KEPT = "on the remote: "
# Exit code that says that the remote or the machine, and not a stage, is why a trial ended.
AWAY = 75


def use_remote_run_cache() -> None:
    """Let DVC, in this process, look up each stage's run on the remote, and put it there."""
    cached_dvc.use_run_cache()
    commit, load, restore = Stage.commit, StageCache._load, StageCache.restore
    restored: set[str] = set()

    def commit_there(stage: Stage, *words: Any, **named: Any) -> None:
        # DVC writes down a run before its outputs are in the cache; now they are.
        commit(stage, *words, **named)
        if _can_hash(stage):
            _again(lambda: _push(stage.repo.stage_cache, stage, is_new=stage.addressing not in restored))
            print(f"{KEPT}{stage.addressing}", flush=True)

    def load_from_there(cache: StageCache, stage: Stage) -> dict | None:
        found = load(cache, stage)
        if not found:
            _again(lambda: _fetch(cache, stage))
            found = load(cache, stage)
        return found

    def restore_and_tell(cache: StageCache, stage: Stage, *words: Any, **named: Any) -> None:
        restore(cache, stage, *words, **named)
        restored.add(stage.addressing)

    Stage.commit = commit_there
    StageCache._load, StageCache.restore = load_from_there, restore_and_tell
    StageCache.pull = lambda cache, remote, odb=None: []


def _push(cache: StageCache, stage: Stage, *, is_new: bool) -> None:
    """Put a stage's outputs on the remote, those that git keeps among them, and then what says that they are there.

    :param is_new: whether the stage ran just now; what came out of this machine's cache may be there
    """
    entry = to_single_stage_lockfile(stage)
    key, value = _get_stage_hash(stage), _get_cache_hash(entry)
    there = _remote(cache)
    place = _place(there, key)
    if not is_new and there.fs.exists(there.fs.join(place, value)):
        return
    for objects in cache._create_stage(entry, wdir=stage.wdir).get_used_objs().values():
        if failed := cache.repo.cloud.push(objects).failed:
            raise OSError(f"{len(failed)} objects were not pushed")
    there.fs.makedirs(place, exist_ok=True)
    there.fs.put_file(cache._get_cache_path(key, value), there.fs.join(place, value))


def _fetch(cache: StageCache, stage: Stage) -> None:
    """Get what the remote says of a stage's runs with its inputs."""
    key = _get_stage_hash(stage)
    there = _remote(cache)
    place = _place(there, key)
    if not there.fs.exists(place):
        return
    here = cache.repo.cache.legacy.fs
    here.makedirs(cache._get_cache_dir(key), exist_ok=True)
    for run in there.fs.find(place):
        there.fs.get_file(run, cache._get_cache_path(key, there.fs.name(run)))


def _place(there: Any, key: str) -> str:
    """Return where DVC keeps the runs with the same inputs."""
    return there.fs.join(there.path, "runs", key[:2], key)


def _remote(cache: StageCache) -> Any:
    """Return the remote.

    :raises OSError: if it is a folder, and not there
    """
    remote = cache.repo.cloud.get_remote_odb(None, "run cache", hash_name="md5-dos2unix")
    if remote.fs.protocol == "local" and not remote.fs.isdir(remote.path):
        raise OSError(f"{remote.path} is no folder")
    return remote


def _again(work: Callable[[], None]) -> None:
    """Do something with the remote; where that fails, again after a pause. Exit with AWAY if it goes on to fail."""
    for pause in (*job.PAUSES, None):
        try:
            work()
            return
        # Each kind of remote has its own errors.
        except Exception as error:  # noqa: BLE001
            if pause is None:
                print(f"error: the remote does not answer ({error})", flush=True)
                sys.exit(AWAY)
            print(f"the remote does not answer ({error}), and is asked again in {pause} s", flush=True)
            time.sleep(pause)
