"""Run the pipeline with DVC, and see to it that DVC keeps what it made.

    python -m press.repro       (`make repro`)

Where its cache has no room, DVC records an output in dvc.lock all the same and ends with 0; the next time it would run
the stage again. Here that is an error, and the next run puts what is there into the cache.
"""

import sys
import tempfile
from typing import TYPE_CHECKING

from press.core import cli, dvc_files
from press.core.errors import UserError

if TYPE_CHECKING:
    from dvc.stage import Stage


def reproduce() -> None:
    """Run `dvc repro` to its end; leave with its exit code if it fails.

    :raises UserError: if dvc.lock cannot be read, or outputs did not get into the cache
    """
    from dvc import cli as dvc

    dvc_files.recorded()
    dvc_files.remove_unreadable_rwlock()
    if kept := uncached(whole=True):
        print(f"putting into DVC's cache what is built already: {', '.join(kept)}", flush=True)
        dvc.main(["commit", "--quiet", "--force", *kept])
        _check_kept(uncached(whole=True))
    if code := dvc.main(["repro"]):
        sys.exit(code)
    _check_kept(uncached())


def _check_kept(left: list[str]) -> None:
    if left:
        raise UserError(
            f"{', '.join(left)}: built, but DVC's cache has no room for the outputs: free some of its disk, then run "
            "this again, which goes on from here and builds nothing of it twice"
        )


def uncached(*, whole: bool = False) -> list[str]:
    """Return the stages whose outputs are here, but not all of them in DVC's cache.

    :param whole: only those whose inputs and outputs are what dvc.lock names, when every byte is read
    """
    from dvc.repo import Repo

    # What DVC remembers of files that it has seen is left aside.
    with tempfile.TemporaryDirectory() as memory, Repo(config={"core": {"site_cache_dir": memory}}) as repo:
        lacking = [stage for stage in repo.index.stages if _lacks(stage)]
        return [stage.addressing for stage in lacking if not whole or _is_whole(stage)]


def _lacks(stage: "Stage") -> bool:
    outs = [out for out in stage.outs if out.use_cache and out.hash_info and out.exists]
    return any(out.changed_cache() for out in outs)


def _is_whole(stage: "Stage") -> bool:
    changed = [each for each in (*stage.deps, *stage.outs) if each.workspace_status()]
    return not changed and not stage.changed_stage()


if __name__ == "__main__":
    cli.in_sentences(reproduce)
