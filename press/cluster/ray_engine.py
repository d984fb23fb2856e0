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

from press.cluster import settings, worker
from press.cluster.settings import GB, Cluster, Resources
from press.core.errors import UserError

LOCAL = "local"
REACH_SECONDS = 10
LOOK_SECONDS = 10
LABEL = "ray.io/node-id"


@dataclass
class Task:
    """A job as it was submitted, the machines that it does without, and whether it has one.

    :param group: what holds its machines together, where it has several
    :param machines: their ids, once they are known
    :param streams: what its machines that still run say, and which of them each is
    :param ends: how each machine's part ended, in that order: the machine's id, and the result or the failure
    """

    stage: str
    order: str
    resources: Resources
    seconds: float
    avoided: Sequence[set[str]]
    without: set[str] = field(default_factory=set)
    placed: bool = False
    group: Any = None
    machines: dict[int, str] = field(default_factory=dict)
    streams: dict[Any, int] = field(default_factory=dict)
    ends: dict[int, tuple[str, dict | Exception]] = field(default_factory=dict)

    def outcome(self) -> tuple[str, dict | Exception]:
        """Return how the job ended: as its first machine did, unless another one made it fail."""
        if _is_good(self.ends[0][1]):
            return self.ends[0]
        failed = [each for each in self.ends.values() if not _is_good(each[1])]
        return next((each for each in failed if _is_lost(each[1])), failed[0])


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
        try:
            _reach(cluster.address)
            ray.init(cluster.address, log_to_driver=False, include_dashboard=False, configure_logging=False)
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
        large_enough, wanted = len(self._machines(resources)), settings.nodes(resources)
        if large_enough < wanted:
            on = f" on each of {wanted} machines" if wanted > 1 else ""
            has = f"{large_enough or 'no'} machine{'s' if large_enough > 1 else ''}"
            raise UserError(
                f"{stage} asks for {resources.cpus:g} cores, {resources.memory:g} GB and {resources.gpus:g} GPUs{on}, "
                f"which {has} of the cluster has: cluster.resources in params.yaml says what a job asks for"
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
        count = settings.nodes(task.resources)
        options: dict[str, Any] = {
            "num_cpus": task.resources.cpus,
            "num_gpus": task.resources.gpus,
            "memory": int(task.resources.memory * GB),
            "max_retries": 0,
            "num_returns": "streaming",
            "name": task.stage,
        }
        there = self._machines(task.resources)
        task.without = next((each & there for each in task.avoided if len(there - each) >= count), set())
        selector = {LABEL: f"!in({','.join(sorted(task.without))})"} if task.without else {}
        remote = self._ray.remote(_located)
        if count > 1:
            placings = self._together(task, count, selector)
            where = self._ray.remote(_meeting_place).options(num_cpus=0, **placings[0]).remote()
            for rank, placing in enumerate(placings):
                self._begin(task, rank, remote.options(**options, **placing), where)
            return
        placing = {"label_selector": selector} if selector else {"scheduling_strategy": "SPREAD"}
        self._begin(task, 0, remote.options(**options, **placing))

    def _begin(self, task: Task, rank: int, remote: Any, *where: Any) -> None:
        stream = remote.remote(self._snapshot, task.order, task.seconds, rank, *where)
        task.streams[stream] = rank
        self._tasks[stream] = task

    def _together(self, task: Task, count: int, selector: dict[str, str]) -> list[dict[str, Any]]:
        """Reserve machines, all at once and no two the same; return how each part of the job gets its own."""
        from ray.util import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        asked = {"CPU": task.resources.cpus, "GPU": task.resources.gpus, "memory": int(task.resources.memory * GB)}
        bundle = {name: amount for name, amount in asked.items() if amount}
        chosen = {"bundle_label_selector": [selector] * count} if selector else {}
        task.group = placement_group([bundle] * count, strategy="STRICT_SPREAD", **chosen)
        return [
            {"scheduling_strategy": PlacementGroupSchedulingStrategy(task.group, placement_group_bundle_index=rank)}
            for rank in range(count)
        ]

    def events(self) -> Iterator[tuple[str, str, str | dict | Exception]]:
        while self._tasks:
            ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=LOOK_SECONDS, fetch_local=False)
            if not ready:
                self._look()
                continue
            stream: Any = ready[0]
            task = self._tasks[stream]
            rank = task.streams[stream]
            try:
                node, said = self._ray.get(next(stream))
            except (StopIteration, self._ray.exceptions.RayError) as error:
                if not isinstance(error, StopIteration):
                    # What the task itself raised stands at the end of a traceback.
                    task.ends.setdefault(rank, (task.machines.get(rank, ""), getattr(error, "cause", None) or error))
                self._forget(task, stream)
                if not task.streams:
                    yield task.stage, *task.outcome()
                continue
            task.placed = True
            task.machines[rank] = node
            if not isinstance(said, str):
                task.ends[rank] = node, said
                if rank == 0 and _is_good(said):
                    # Where dvc.lock had the stage already, they wait for the first to begin.
                    self._cancel(task, [each for each in task.streams if each != stream])
            elif rank == 0:
                yield task.stage, node, said
            elif said:
                yield task.stage, "", f"node {rank} | {said}"

    def _forget(self, task: Task, stream: Any) -> None:
        """Let go of what has ended, and of the machines with the last of a job."""
        self._tasks.pop(stream)
        task.streams.pop(stream)
        if task.group is not None and not task.streams:
            self._ray.util.remove_placement_group(task.group)

    def _jobs(self) -> list[Task]:
        return list({id(each): each for each in self._tasks.values()}.values())

    def _look(self) -> None:
        """Queue those jobs anew that wait for other machines than those that are left."""
        for task in self._jobs():
            left = self._machines(task.resources) - task.without
            if not task.placed and task.without and len(left) < settings.nodes(task.resources):
                self._cancel(task, list(task.streams))
                self._queue(task)

    def _cancel(self, task: Task, streams: list[Any], *, force: bool = False) -> None:
        for stream in streams:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(stream, force=force)
            self._forget(task, stream)

    def cancel(self, stage: str) -> None:
        for task in self._jobs():
            if task.stage == stage:
                # Otherwise it would be interrupted when it next says something, which may be hours later.
                self._cancel(task, list(task.streams), force=True)

    def stop(self) -> None:
        """Cancel all jobs and leave the cluster."""
        for task in self._jobs():
            self._cancel(task, list(task.streams))
        self._ray.shutdown()


def _reach(address: str) -> None:
    """Try to reach an address of a host and a port, for which Ray waits for minutes.

    :raises OSError: if nobody answers
    """
    if named := re.fullmatch(r"(?:ray://)?([^/]+):(\d+)", address):
        socket.create_connection((named[1], int(named[2])), REACH_SECONDS).close()


def _is_good(said: dict | Exception) -> bool:
    return isinstance(said, dict) and said["code"] == 0


def _is_lost(said: dict | Exception) -> bool:
    """Whether a part of a job ended with its machine, or was killed."""
    return isinstance(said, Exception) or said["code"] < 0


def _meeting_place() -> tuple[str, int]:
    """Return this machine's address and a port that nobody has, for the parts of a job to meet."""
    import ray

    with socket.socket() as probe:
        probe.bind(("", 0))
        return ray.util.get_node_ip_address(), probe.getsockname()[1]


def _located(
    snapshot: bytes, order: str, seconds: float, rank: int, where: tuple[str, int] | None = None
) -> Iterator[tuple[str, str | dict]]:
    """Run a job, or a part of it, and say on which machine.

    :param rank: of the part
    :param where: the parts of a job on several machines meet
    """
    import ray

    node = ray.get_runtime_context().get_node_id()
    # Before anything can fail there.
    yield node, ""
    variables = {worker.ADDRESS: where[0], worker.PORT: str(where[1]), worker.RANK: str(rank)} if where else {}
    for said in worker.run(snapshot, order, seconds, variables):
        yield node, said
