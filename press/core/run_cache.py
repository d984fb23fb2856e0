"""DVC's run cache: what a stage once made of its inputs, from which inputs that are set back get their old outputs.

    python -m press.core.run_cache

DVC takes a run out of it for any stage whose outputs do not persist, but keeps no run of a stage with reports that are
in git. So `check`, which runs before all other stages when anything has changed, has it keep what is built by then.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from press.core import cli, dvc_files, files, paths

if TYPE_CHECKING:
    from dvc.dependency import Dependency
    from dvc.stage import Stage

# The digest of the dvc.lock whose runs are kept.
KEPT = Path(".dvc/tmp/kept-runs")


def keep() -> None:
    """Put each run that dvc.lock records into the run cache, its reports included, if these are as recorded.

    :raises UserError: if dvc.lock cannot be read
    """
    if not dvc_files.recorded():
        return
    digest = files.sha256(paths.LOCK)
    if KEPT.exists() and KEPT.read_text(encoding="utf-8") == digest:
        return
    from dvc.repo import Repo

    with Repo() as repo:
        for stage in repo.index.stages:
            if _is_as_recorded(stage):
                repo.stage_cache.save(stage)
    KEPT.write_text(digest, encoding="utf-8")


def bring_back(stage: "Stage") -> bool:
    """Put in place what the run cache has of a stage and its inputs, as `dvc repro` does; return whether it has that.

    The repository of the stage has to be locked.
    """
    from dvc.stage.cache import _can_hash

    if not all(dep.exists for dep in stage.deps):
        return False
    stage.save_deps()
    runs = stage.repo.stage_cache
    run = runs._load(stage) if _can_hash(stage) else None
    if not run:
        return False
    made = runs._create_stage(run, wdir=stage.wdir)
    if not made.outs_cached():
        return False
    stage.remove_outs()
    made.checkout()
    stage.save(run_cache=False)
    stage.commit()
    stage.dump(update_pipeline=False)
    print(f"{stage.addressing}: out of DVC's run cache", flush=True)
    return True


def _is_as_recorded(stage: "Stage") -> bool:
    """Whether dvc.lock has the stage as dvc.yaml has it, and its reports are still those; DVC's cache has the rest."""
    is_recorded = all(map(_is_recorded, stage.deps)) and all(out.hash_info for out in stage.outs)
    # DVC looks at the inputs, too, though by what is recorded alone it names the run.
    return (
        is_recorded
        and not stage.cmd_changed
        and all(dep.exists for dep in stage.deps)
        and not any(out.workspace_status() for out in stage.outs if not out.use_cache)
    )


def _is_recorded(dep: "Dependency") -> bool:
    """Whether dvc.lock has all of a dependency.

    Of parameters that dvc.yaml has named only since, dvc.lock or their file has nothing yet.
    """
    from dvc.dependency import ParamsDependency

    if not dep.hash_info or not isinstance(dep, ParamsDependency):
        return bool(dep.hash_info)
    return dep.exists and set(dep.params) <= dep.hash_info.value.keys() & dep.read_params().keys()


if __name__ == "__main__":
    cli.in_sentences(keep)
