"""Ray places the jobs: on this machine's cores, on machines of one's own, on Kubernetes or Slurm.

Its machines need the packages of requirements.lock and requirements-cluster.lock; the project comes with each job.
"""

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from press.cluster import worker
from press.cluster.settings import GB, Cluster, Resources
from press.core.errors import UserError

LOCAL = "local"
REACH_SECONDS = 10
LOOK_SECONDS = 10
LABEL = "ray.io/node-id"


@dataclass
class Task:
    """A job as it was submitted, the machines that it does without, and whether it has one."""

    stage: str
    order: str
    resources: Resources
    seconds: float
    avoided: Sequence[set[str]]
    without: set[str] = field(default_factory=set)
    placed: bool = False


class RayEngine:
    """Jobs as Ray's tasks, each a stream of lines with its result at the end."""

    def __init__(self, cluster: Cluster, snapshot: bytes) -> None:
        """Join the cluster.

        :param snapshot: the project, which every job unpacks
        :raises UserError: if Ray is not installed, or there is no cluster at the address
        """
        # Ray tells its makers what runs, if nobody objects.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ModuleNotFoundError as error:
            raise UserError("Ray is not installed: run `make install-cluster`") from error
        self._ray = ray
        address = None if cluster.address == LOCAL else cluster.address
        try:
            _reach(cluster.address)
            ray.init(address, log_to_driver=False, include_dashboard=False, configure_logging=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"params.yaml: cluster.address is {cluster.address!r}, where no Ray cluster answers "
                f"({' '.join(str(error).split())[:200]}): start one with `ray start --head`, or write {LOCAL}"
            ) from error
        # By value: the machines have the project only in the jobs' own folders.
        ray.cloudpickle.register_pickle_by_value(worker)
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        self._snapshot = ray.put(snapshot)
        self._tasks: dict[Any, Task] = {}

    @staticmethod
    def place(cluster: Cluster, resources: Resources) -> str:
        """Any machine that is large enough."""
        return ""

    def check(self, stage: str, resources: Resources) -> None:
        if not self._machines(resources):
            raise UserError(
                f"{stage} asks for {resources.cpus:g} cores, {resources.memory:g} GB and {resources.gpus:g} GPUs, "
                "which no machine of the cluster has: cluster.resources in params.yaml says what a job asks for"
            )

    def _machines(self, resources: Resources) -> set[str]:
        """Return the ids of the machines that are there and large enough for a job, whatever runs on them."""
        wanted = {"CPU": resources.cpus, "memory": resources.memory * GB, "GPU": resources.gpus}
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        return {
            node["NodeID"]
            for node in nodes
            if all(node["Resources"].get(name, 0) >= amount for name, amount in wanted.items())
        }

    def submit(self, stage: str, order: str, resources: Resources, seconds: float, avoided: Sequence[set[str]]) -> None:
        self._queue(Task(stage, order, resources, seconds, avoided))

    def _queue(self, task: Task) -> None:
        options: dict[str, Any] = {
            "num_cpus": task.resources.cpus,
            "num_gpus": task.resources.gpus,
            "memory": int(task.resources.memory * GB),
            "max_retries": 0,
            "num_returns": "streaming",
            "name": task.stage,
        }
        there = self._machines(task.resources)
        task.without = next((each & there for each in task.avoided if there - each), set())
        if task.without:
            options["label_selector"] = {LABEL: f"!in({','.join(sorted(task.without))})"}
        else:
            options["scheduling_strategy"] = "SPREAD"
        remote = self._ray.remote(_located).options(**options)
        self._tasks[remote.remote(self._snapshot, task.order, task.seconds)] = task

    def events(self) -> Iterator[tuple[str, str, str | dict | Exception]]:
        while self._tasks:
            ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=LOOK_SECONDS, fetch_local=False)
            if not ready:
                self._look()
                continue
            stream: Any = ready[0]
            task = self._tasks[stream]
            try:
                node, said = self._ray.get(next(stream))
            except StopIteration:
                self._tasks.pop(stream)
                continue
            except self._ray.exceptions.RayError as error:
                self._tasks.pop(stream)
                # What the task itself raised stands at the end of a traceback.
                yield task.stage, "", getattr(error, "cause", None) or error
                continue
            task.placed = True
            yield task.stage, node, said

    def _look(self) -> None:
        """Queue those jobs anew that wait for other machines than those that are left."""
        for stream, task in list(self._tasks.items()):
            if not task.placed and task.without and not self._machines(task.resources) - task.without:
                self._ray.cancel(stream)
                self._tasks.pop(stream)
                self._queue(task)

    def stop(self) -> None:
        """Cancel all jobs and leave the cluster."""
        for stream in self._tasks:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(stream, force=False)
        self._ray.shutdown()


def _reach(address: str) -> None:
    """Try to reach an address of a host and a port, for which Ray waits for minutes.

    :raises OSError: if nobody answers
    """
    if named := re.fullmatch(r"(?:ray://)?([^/]+):(\d+)", address):
        socket.create_connection((named[1], int(named[2])), REACH_SECONDS).close()


def _located(snapshot: bytes, order: str, seconds: float) -> Iterator[tuple[str, str | dict]]:
    """Run a job, and say on which machine."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    # Before anything can fail there.
    yield node, ""
    for said in worker.run(snapshot, order, seconds):
        yield node, said
