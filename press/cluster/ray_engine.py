"""Ray places the jobs: on this machine's cores, on machines of one's own, on Kubernetes or Slurm.

Its machines need the packages of requirements.lock and requirements-cluster.lock; the project comes with each job.
"""

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from typing import Any

from press.cluster import worker
from press.cluster.settings import GB, Cluster, Resources
from press.core.errors import UserError

LOCAL = "local"
REACH_SECONDS = 10
LABEL = "ray.io/node-id"


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
        self._streams: dict[Any, str] = {}

    def check(self, resources: Resources, stage: str) -> None:
        """Refuse a job for which no machine is large enough.

        :raises UserError: saying what the largest has
        """
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        wanted = {"CPU": resources.cpus, "memory": resources.memory * GB, "GPU": resources.gpus}
        if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            most = max((node.get("CPU", 0), node.get("memory", 0) / GB, node.get("GPU", 0)) for node in nodes)
            raise UserError(
                f"{stage} asks for {resources.cpus:g} cores, {resources.memory:g} GB and {resources.gpus:g} GPUs, and "
                f"no machine of the cluster has them: the largest has {most[0]:g}, {most[1]:.0f} GB and {most[2]:g}; "
                "cluster.resources in params.yaml says what a job asks for"
            )

    def submit(self, stage: str, order: str, resources: Resources, seconds: float, avoided: set[str]) -> None:
        """Queue a job.

        :param seconds: time limit
        :param avoided: machines that failed it before, by the ids that `events` gives
        """
        options: dict[str, Any] = {
            "num_cpus": resources.cpus,
            "num_gpus": resources.gpus,
            "memory": int(resources.memory * GB),
            "max_retries": 0,
            "num_returns": "streaming",
            "name": stage,
            "scheduling_strategy": "SPREAD",
        }
        if avoided:
            options["label_selector"] = {LABEL: f"!in({','.join(sorted(avoided))})"}
            del options["scheduling_strategy"]
        task = self._ray.remote(_located)
        self._streams[task.options(**options).remote(self._snapshot, order, seconds)] = stage

    def events(self) -> Iterator[tuple[str, str, str | dict | Exception]]:
        """Yield what the jobs say as it comes: the stage, the machine's id, and a line, the result or a failure.

        It ends when no job is left.
        """
        while self._streams:
            ready, _ = self._ray.wait(list(self._streams), num_returns=1, fetch_local=False)
            stream: Any = ready[0]
            stage = self._streams[stream]
            try:
                node, said = self._ray.get(next(stream))
            except StopIteration:
                self._streams.pop(stream)
                continue
            except self._ray.exceptions.RayError as error:
                self._streams.pop(stream)
                yield stage, "", error
                continue
            yield stage, node, said

    def stop(self) -> None:
        """Cancel all jobs and leave the cluster."""
        for stream in self._streams:
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
