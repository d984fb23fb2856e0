"""Measure what a job costs beside its stage, and what the coordinator does a job. docs/scale.md has the figures.

    python -m bench.scale coordinator 10 100 1000          its processor time, with machines that are done at once
    python -m bench.scale cluster 10 100 --machines 2      jobs that sleep, on a Ray cluster on loopback
    python -m bench.scale adapters --machines 1 2 4        eight adapters, whose stages sleep as long as they take

In the first two, one stage comes before all others, and one after them. A stage that sleeps takes no processor time, so
that two cores can be any number of machines; where others use them too, wall times say little.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

import yaml

from press.cluster import coordinator, plan, settings, worker
from press.cluster.ray_engine import RayEngine
from press.core import files

ROOT = Path(__file__).parents[1]
SECONDS = 1.0
# Of each stage's output, in bytes.
SIZE = 10_000
ADAPTERS = 8
# Seconds of a large model's stages on a GPU (docs/benchmarks.md), and after which others each comes.
STAGES = {"quantize": (35.1, []), "capture": (38.1, ["quantize"])}
EACH = {"finetune": (63.6, ["quantize"]), "convert": (15.0, ["finetune", "capture"])}
MB = 10**6


def star(count: int, seconds: float) -> dict[str, tuple[float, list[str]]]:
    """Return stages with the seconds that they sleep and the stages whose outputs they read."""
    middle = [f"middle-{number:04}" for number in range(count - 2)]
    return {"first": (seconds, []), **{name: (seconds, ["first"]) for name in middle}, "last": (seconds, middle)}


def adapters() -> dict[str, tuple[float, list[str]]]:
    """Return the stages of a large model with eight adapters."""
    stages = dict(STAGES)
    for number in range(ADAPTERS):
        for stage, (seconds, after) in EACH.items():
            stages[f"{stage}-{number}"] = (seconds, [f"{each}-{number}" if each in EACH else each for each in after])
    return stages


@contextlib.contextmanager
def project(stages: dict[str, tuple[float, list[str]]], address: str) -> Iterator[Path]:
    """Make a project of sleeping stages with a remote, and work in it."""
    with tempfile.TemporaryDirectory() as parent, contextlib.chdir(parent):
        folder = Path(parent, "project")
        folder.mkdir()
        os.chdir(folder)
        for name in ("press", "stages"):
            shutil.copytree(ROOT / name, name, ignore=shutil.ignore_patterns("__pycache__"))
        written: dict[str, dict[str, object]] = {"check": {"cmd": "true"}}
        for name, (seconds, after) in stages.items():
            # As each stage of the project reads a file that is there.
            deps = ["params.yaml", *(f"{each}.out" for each in after)]
            command = f"sleep {seconds} && head -c {SIZE} /dev/urandom > {name}.out"
            written[name] = {"cmd": command, "deps": deps, "outs": [f"{name}.out"]}
        resources = {"default": {"cpus": 1, "memory": 0.1, "gpus": 0}}
        nowhere = {"compute": "", "instance_type": ""}
        azureml = {"cpu": nowhere, "gpu": {**nowhere}, "spot": False, "identity": "", "image": ""}
        block = {"address": address, "retries": 2, "minutes": 60, "resources": resources, "azureml": azureml}
        Path("params.yaml").write_text(yaml.safe_dump({"cluster": block}), encoding="utf-8")
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": written}, sort_keys=False), encoding="utf-8")
        for words in (
            ["git", "init", "--quiet"],
            [sys.executable, "-m", "dvc", "init", "--quiet"],
            [sys.executable, "-m", "dvc", "remote", "add", "--quiet", "--default", "storage", f"{parent}/remote"],
        ):
            subprocess.run(words, check=True)
        Path(".gitignore").write_text("*.out\n", encoding="utf-8")
        yield Path(parent)


class Instant:
    """An engine whose machines are done at once."""

    def __init__(self, jobs: tuple[plan.Job, ...]) -> None:
        self._jobs = {job.stage: job for job in jobs}
        self._waiting: list[str] = []
        self.sent = 0

    def submit(self, stage: str, order: str, *_: object) -> None:
        self._waiting.append(stage)
        self.sent += len(order)

    def events(self) -> Iterator[tuple[str, str, str | dict]]:
        while self._waiting:
            stage = self._waiting.pop()
            yield stage, "machine", ""
            outs = [{"path": path, "hash": "md5", "md5": "0" * 32, "size": 1} for path in self._jobs[stage].outputs]
            entry = {"cmd": stage, "outs": outs}
            yield stage, "machine", {"code": 0, "late": False, "entry": entry, "reports": {}, "seconds": SECONDS}


def measure_coordinator(counts: list[int]) -> None:
    """Print the processor time that a coordinator takes for pipelines of some numbers of jobs."""
    for count in counts:
        with project(star(count, SECONDS), "local"):
            start = time.process_time()
            planned = plan.make(settings.load(), brings_back=False)
            made = time.process_time()
            packed = coordinator.snapshot()
            engine = Instant(planned.jobs)
            begun = time.process_time()
            with contextlib.redirect_stdout(None):
                coordinator.Run(settings.load(), planned, cast(coordinator.Engine, engine), {}).to_its_end()
            done = time.process_time()
        print(
            f"{count} jobs: plan {(made - start) / count * 1e3:.1f} ms a job, orders and results "
            f"{(done - begun) / count * 1e3:.1f} ms a job; order {engine.sent / count:.0f} bytes a job; the project, "
            f"once a machine, {len(packed) / MB:.2f} MB",
            flush=True,
        )


@contextlib.contextmanager
def cluster(machines: int, folder: Path) -> Iterator[str]:
    """Start a Ray cluster of some machines of one core on loopback."""
    # What others do with this machine's memory is no reason to end a job.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for number in range(machines):
            nodes.add_node(num_cpus=1, memory=2 * 10**9, env_vars={worker.HOME: str(folder / f"{number}")})
        yield str(nodes.address)
    finally:
        nodes.shutdown()


@dataclass(frozen=True)
class Used:
    """Processor seconds so far.

    :param coordinator: of this process, and of what it has started here
    :param jobs: of their own processes
    :param ray: of all other processes of the cluster, those around the jobs among them
    """

    coordinator: float
    jobs: float
    ray: float

    @classmethod
    def now(cls) -> "Used":
        import psutil

        own = os.times()
        jobs = ray = 0.0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                ended = times.children_user + times.children_system
                is_around_job = process.name().startswith("ray::")
                jobs += ended if is_around_job else 0
                ray += times.user + times.system + (0 if is_around_job else ended)
        return cls(own.user + own.system + own.children_user + own.children_system, jobs, ray)


class Measured(RayEngine):
    """Ray, and what had been used when it was left."""

    used: ClassVar[Used]

    def stop(self) -> None:
        Measured.used = Used.now()
        super().stop()


def run(stages: dict[str, tuple[float, list[str]]], machines: int) -> None:
    """Run a pipeline on a Ray cluster, and print what that took."""
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(machines, Path(folder)) as address,
        project(stages, address) as parent,
    ):
        start, before = time.monotonic(), Used.now()
        coordinator.reproduce(Measured)
        seconds, own = time.monotonic() - start, Used.now().coordinator - before.coordinator
        jobs, ray = Measured.used.jobs - before.jobs, Measured.used.ray - before.ray
        took, count = plan.known_times(), len(stages)
        beside = sum(took[name] - stages[name][0] for name in stages) / count
        pushed = files.size(parent / "remote")
        pulled = sum(files.size(cache) for cache in Path(folder).glob("*/cache")) - pushed
    slept = sum(each for each, _ in stages.values())
    print(
        f"{count} jobs on {machines} machines: {seconds:.0f} s for {slept:.0f} s of stages, {beside:.1f} s a job "
        f"beside its stage; processor seconds a job: {jobs / count:.2f} of its own, {ray / count:.2f} of Ray, "
        f"{own / count:.2f} of the coordinator; bytes a job: {pulled / count:.0f} pulled, {pushed / count:.0f} "
        f"pushed; load {os.getloadavg()[1]:.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("coordinator", "cluster", "adapters"))
    parser.add_argument("counts", type=int, nargs="*", help="numbers of jobs")
    parser.add_argument("--machines", type=int, nargs="+", default=[2])
    words = parser.parse_args()
    if words.what == "coordinator":
        measure_coordinator(words.counts)
        return
    for machines in words.machines:
        pipelines = [adapters()] if words.what == "adapters" else [star(count, SECONDS) for count in words.counts]
        for stages in pipelines:
            run(stages, machines)


if __name__ == "__main__":
    main()
