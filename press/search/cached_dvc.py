"""DVC's command line with its run cache for this pipeline's stages: what another trial built comes out of the cache.

    python -m press.search.cached_dvc exp run ...

DVC has no run cache for stages whose outputs persist (they might build on what was there; these stages replace their
outputs whole), nor for those with reports that git keeps. In a trial's own clone, neither is a reason to build twice.
"""

import sys

from dvc.cli import main
from dvc.output import Output
from dvc.stage import Stage


def use_run_cache() -> None:
    """Let DVC, in this process, keep every stage's run."""
    save = Stage.save

    def save_with_run_cache(stage: Stage, allow_missing: bool = False, run_cache: bool = True) -> None:
        save(stage, allow_missing=allow_missing, run_cache=True)

    Stage.save = save_with_run_cache
    Output.persist = property(lambda output: False, lambda output, value: None)


if __name__ == "__main__":
    use_run_cache()
    sys.exit(main(sys.argv[1:]))
