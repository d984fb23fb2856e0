"""Copies of the project as it is built here, with other parameters, in which stages run by themselves."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from press.core import nested, paths, strict_yaml
from press.params import recorded, resolving

# What a stage reads, besides the project's own files.
BUILT = ("models", "prepared", "reports")


def copy_to(folder: Path, changes: Mapping[str, object]) -> None:
    """Fill a folder with the project as it is built.

    :param changes: of params.yaml, by the keys' dotted names
    """
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, listed):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, folder / name)
    for name in BUILT:
        shutil.copytree(name, folder / name, dirs_exist_ok=True)
    # The code, parameters and outputs of this very run; what is there was written for others.
    shutil.rmtree(folder / paths.CODE)
    (folder / paths.LOCK).unlink()
    values = strict_yaml.load(paths.PARAMS)
    for key, value in changes.items():
        nested.put(values, key.split("."), value)
    (folder / paths.PARAMS).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    recorded.write(resolving.Resolved(folder / paths.PARAMS).values, folder)


def timed(words: Sequence[str], folder: Path) -> float:
    """Run a stage in a folder; return the seconds that its processes had of a processor."""
    start = os.times()
    subprocess.run([sys.executable, "-m", f"stages.{words[0]}", *words[1:]], cwd=folder, check=True)
    end = os.times()
    return end.children_user + end.children_system - start.children_user - start.children_system
