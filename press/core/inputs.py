"""What a stage reads of what other stages made: the bytes that dvc.lock names, or else the stage does not run.

DVC believes a file by its size and times, and what comes out of its cache by its name: what is damaged there would be
built from, under the good digest. A stage reads its inputs anyway, so that reading them once more costs little.
"""

from collections.abc import Iterable
from pathlib import Path

import yaml

from press.core import dvc_files, paths
from press.core.errors import UserError


def check(stage: str, words: Iterable[str]) -> None:
    """Refuse a stage of which an input is not what dvc.lock says that another stage made.

    :param words: those of the stage's command line
    :raises UserError: naming the input, and what brings it back
    """
    read = _read(stage, list(words))
    if not read:
        return
    for maker, recorded in dvc_files.recorded().items():
        for path, digest in dvc_files.outputs(recorded).items():
            if dvc_files.overlap(path, read) and path.exists() and dvc_files.digest(path) != digest:
                raise UserError(
                    f"{path} is not what {maker} made, as {paths.LOCK} names it, whatever DVC says: `make pull` brings "
                    f"it back from the remote, `dvc repro --force {maker}` makes it anew, `dvc commit {maker}` records "
                    "it if you ran that stage by hand; or remove it if no such stage is left"
                )


def _read(stage: str, words: list[str]) -> set[Path]:
    """Return the paths that a stage depends on by dvc.yaml.

    What stands for an adapter or a target there, such as ${key}, stands in the stage's command, too. What a parameter
    names, such as ${item.data}, stays as it is: no stage makes it.
    """
    if not paths.PIPELINE.exists():
        return set()
    block = yaml.safe_load(paths.PIPELINE.read_text(encoding="utf-8"))["stages"].get(stage, {})
    block = block.get("do", block)
    named = dict(zip(block.get("cmd", "").split()[-len(words) :], words, strict=False))
    return {Path(_named(path, named)) for path in block.get("deps", [])}


def _named(path: str, named: dict[str, str]) -> str:
    for variable, word in named.items():
        path = path.replace(variable, word)
    return path
