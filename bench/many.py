"""Time what DVC does with nothing to do, where there are many adapters and targets.

    python -m bench.many --adapters 50 --targets 4 8

Each size is a copy of the project in a folder of its own, whose adapters share one data set. Each stage but `check` has
outputs that are a few bytes, which DVC is told are those of its inputs. Processor time is that of all processes.

    python -m bench.many --adapters 50 --package packages/cpu

times the loading of a package in app.py, with so many copies of its first adapter.
"""

import argparse
import copy
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from bench.memory import peak_bytes
from press.core import files, paths

ROOT = Path(__file__).parents[1]
SHARED = {"data": "data/travel.jsonl", "generation": {"max_new_tokens": 8}}


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.many", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--adapters", type=int, default=50)
    parser.add_argument("--targets", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--package", type=Path, help="folder of a package")
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.fill:
        fill()
        return
    if words.package:
        load(words.package, words.adapters)
        return
    for targets in words.targets:
        with tempfile.TemporaryDirectory() as place:
            measure(Path(place) / "olive-press", words.adapters, targets)


def measure(folder: Path, adapters: int, targets: int) -> None:
    """Print what one size takes."""
    make(folder, adapters, targets)
    print(f"{adapters} adapters, {targets} targets", flush=True)
    timed(folder, "python -m stages.check", sys.executable, "-m", "stages.check")
    run(folder, sys.executable, "-m", "bench.many", "--fill")
    print(f"  dvc.lock: {len((folder / 'dvc.lock').read_text(encoding='utf-8').splitlines())} lines")
    timed(folder, "dvc status", "dvc", "status")
    timed(folder, "dvc repro", "dvc", "repro")


def make(folder: Path, adapters: int, targets: int) -> None:
    """Make a project of so many adapters and targets."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copyfile(__file__, folder / "bench/many.py")
    (folder / "dvc.lock").unlink()
    params = yaml.safe_load((folder / paths.PARAMS).read_bytes())
    # Written out each: YAML would let the adapters be one block.
    params["adapters"] = {f"adapter-{number:02}": copy.deepcopy(SHARED) for number in range(adapters)}
    params["targets"] = {f"target-{number}": {} for number in range(targets)}
    # It names adapters that are not there.
    params["gates"] = {}
    params.pop("search")
    (folder / paths.PARAMS).write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    run(folder, "git", "init", "--quiet")


def fill() -> None:
    """Write the outputs of each stage but `check`, and a dvc.lock that says they are those of its inputs."""
    from dvc.repo import Repo
    from dvc.stage import serialize

    with Repo() as repo, repo.lock:
        stages = [each for each in repo.index.stages if each.name != "check"]
        # Some stages read single files of others' folders.
        for each in (each for stage in stages for each in (*stage.outs, *stage.deps)):
            path = Path(each.fs_path)
            if not path.exists():
                path = path if path.suffix else path / "content.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(str(each), encoding="utf-8")
        locked = yaml.safe_load(Path("dvc.lock").read_bytes()) if Path("dvc.lock").exists() else {"schema": "2.0"}
        for stage in repo.index.stages:
            stage.save()
            stage.commit()
            locked.setdefault("stages", {})[stage.addressing] = json.loads(
                json.dumps(serialize.to_single_stage_lockfile(stage))
            )
        Path("dvc.lock").write_text(yaml.safe_dump(locked, sort_keys=False), encoding="utf-8")


def load(package: Path, adapters: int) -> None:
    """Print what it takes to open a package and to switch to each of its adapters."""
    from app import Chat

    with tempfile.TemporaryDirectory(dir=package.parent) as place:
        folder = Path(shutil.copytree(package, Path(place) / "package"))
        first, *others = sorted((folder / "adapters").iterdir())
        for other in others:
            files.remove(other)
        for number in range(1, adapters):
            # Links to the same bytes, which a package takes for plain files.
            shutil.copytree(first, first.with_name(f"{first.name}-{number:02}"), copy_function=os.link)
        manifest = files.read_json(folder / paths.MANIFEST)
        (folder / paths.MANIFEST).unlink()
        files.write_json(folder / paths.MANIFEST, manifest | {"files": files.digests(folder)})
        size = files.readable(files.size(first))
        started = time.process_time()
        # A response schema is compiled when its adapter is switched to, in a process apart.
        chat = Chat(folder, free=True)
        opened = time.process_time()
        for name in chat.available():
            chat.switch(name)
        ended = time.process_time()
    print(
        f"{adapters} adapters of {size}: opened in {opened - started:.2f} s of processors, "
        f"all loaded in {ended - opened:.2f} s; peak {files.readable(peak_bytes())}"
    )


def timed(folder: Path, what: str, *command: str) -> None:
    """Print what a command took."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run(folder, *command)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - wall
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"  {what}: {wall:.1f} s, {processor:.1f} s of processors", flush=True)


def run(folder: Path, *command: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": "", "DVC_NO_ANALYTICS": "1"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}")
    return ended.stdout


if __name__ == "__main__":
    main()
