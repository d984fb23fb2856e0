"""Azure ML places the jobs: on clusters of its workspace, or on serverless compute.

A stage is a command job of the experiment `olive-press`; Azure ML's own reuse of steps has no part in it, since it is
of pipelines' steps alone. What runs is known by its name before it is begun, and kept in a file, so that a coordinator
that was killed leaves nothing behind that the next one does not cancel.
"""

import re
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from press.cluster import azureml_jobs, settings
from press.cluster.azureml_jobs import Asked, Seen
from press.cluster.settings import Cluster, Machine, Resources
from press.core import files, shell
from press.core.errors import UserError
from press.release import bounded
from press.release import settings as release_settings
from press.release.azureml import located, where

T = TypeVar("T")

RUNNING = Path(".dvc/tmp/cluster/azureml.json")
# Time limits of what is asked, and how long Azure ML may give no answer while jobs run there.
SECONDS, UPLOAD_SECONDS, PATIENCE_SECONDS = 300, 900, 900
# Of a stage's name, what a job's cannot have.
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9-]")
# Between two looks: soon where something happens, and rarely where nothing does.
SHORTEST, LONGEST = 2, 15


@dataclass
class Running:
    """A job on Azure ML.

    :param read: how much of its log is known, in bytes
    """

    stage: str
    read: int = 0


class AzuremlEngine:
    """Jobs as command jobs, looked at until they have ended."""

    def __init__(self, cluster: Cluster, snapshot: bytes) -> None:
        self._settings = cluster.azureml
        self._workspace = located(release_settings.load().publish.azureml)
        self._process = bounded.Process(f"Azure ML ({where(self._workspace)})")
        self._jobs: dict[str, Running] = {}
        # What there is to tell before any job is looked at.
        self._news: deque[tuple[str, str | Exception]] = deque()
        self._commit = shell.output("git", "rev-parse", "HEAD").strip()
        self._snapshot = snapshot
        self._prepared: tuple[str, str] | None = None
        self._checked: set[str] = set()
        # Those that could not be cancelled, of this run or an earlier one.
        self._left: list[str] = files.read_json(RUNNING)["jobs"] if RUNNING.exists() else []
        if self._left:
            print(f"cancelling on Azure ML, where an earlier run left them: {', '.join(self._left)}", flush=True)
            self._ask(azureml_jobs.cancel, self._left)
            self._left = []
            self._keep()

    @staticmethod
    def place(cluster: Cluster, resources: Resources) -> str:
        """Name the compute or the size of serverless machines."""
        machine = _machine(cluster.azureml, resources)
        spot = ", spot" if cluster.azureml.spot else ""
        return f"{machine.compute or f'serverless {machine.instance_type}'}{spot}"

    def check(self, stage: str, resources: Resources) -> None:
        machine = _machine(self._settings, resources)
        asked = repr((machine, resources))
        if asked not in self._checked:
            self._ask(azureml_jobs.check, stage, machine, resources, self._settings.spot)
            self._checked.add(asked)

    def submit(self, stage: str, order: str, resources: Resources, seconds: float, avoided: Sequence[set[str]]) -> None:
        name = f"{NOT_IN_NAMES.sub('-', stage)}-{uuid.uuid4().hex[:12]}"
        # With the first one, when nothing runs yet that would have to be kept.
        self._prepared = self._prepared or self._ask(
            azureml_jobs.prepare, self._snapshot, self._settings.image, seconds=UPLOAD_SECONDS
        )
        project, environment = self._prepared
        asked = Asked(
            name=name,
            stage=stage,
            order=order,
            machine=_machine(self._settings, resources),
            nodes=settings.nodes(resources),
            seconds=seconds,
            spot=self._settings.spot,
            identity=self._settings.identity,
            project=project,
            environment=environment,
            commit=self._commit,
        )
        # Known before it is begun, so that it is cancelled whatever happens meanwhile.
        self._jobs[name] = Running(stage)
        self._keep()
        try:
            page = self._ask(azureml_jobs.submit, asked)
            self._news.append((stage, f"Azure ML runs it as {name}: {page}\n"))
        except UserError as error:
            # It may have begun all the same.
            self._cancel([name])
            self._news.append((stage, error))

    def events(self) -> Iterator[tuple[str, str, str | dict | Exception]]:
        pause = SHORTEST
        while self._jobs or self._news:
            while self._news:
                stage, said = self._news.popleft()
                yield stage, "", said
            told = [said for name, seen in self._look().items() for said in self._said(name, seen)]
            yield from told
            pause = SHORTEST if told else min(2 * pause, LONGEST)
            if self._jobs and not self._news:
                time.sleep(pause)

    def _look(self) -> dict[str, Seen]:
        """Return how the jobs stand, once Azure ML says so.

        :raises UserError: if it has not for long
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while self._jobs:
            try:
                return self._ask(azureml_jobs.look, {name: job.read for name, job in self._jobs.items()})
            except UserError as error:
                if time.monotonic() > end:
                    raise
                print(f"{error}; its jobs go on, and are looked at again", flush=True)
                time.sleep(LONGEST)
        return {}

    def _said(self, name: str, seen: Seen) -> Iterator[tuple[str, str, str | dict | Exception]]:
        """Yield a job's new lines, and its end if it has ended."""
        job, ended = self._jobs[name], seen.status in azureml_jobs.ENDED
        # A line that is not whole yet is read again.
        whole = len(seen.log) if ended else seen.log.rfind(b"\n") + 1
        job.read = whole if seen.again else job.read + whole
        for line in seen.log[:whole].decode(errors="replace").splitlines(keepends=True):
            yield job.stage, "", line
        if ended:
            if seen.status == azureml_jobs.LOST:
                self._cancel([name])
            else:
                self._forget(name)
            yield job.stage, "", _end(name, seen)

    def cancel(self, stage: str) -> None:
        if names := [name for name, job in self._jobs.items() if job.stage == stage]:
            self._cancel(names)

    def stop(self) -> None:
        try:
            if self._jobs:
                print(f"cancelling on Azure ML: {', '.join(self._jobs)}", flush=True)
                self._cancel(list(self._jobs))
        finally:
            self._process.end()

    def _cancel(self, names: list[str]) -> None:
        """Cancel jobs, or leave that to the next run."""
        try:
            self._ask(azureml_jobs.cancel, names)
        except UserError as error:
            self._left += names
            print(f"{error}; these jobs may still run there: {', '.join(names)}", file=sys.stderr, flush=True)
        self._forget(*names)

    def _forget(self, *names: str) -> None:
        for name in names:
            del self._jobs[name]
        self._keep()

    def _keep(self) -> None:
        files.write_json(RUNNING, {"jobs": [*self._left, *self._jobs]})

    def _ask(self, function: Callable[..., T], *arguments: object, seconds: float = SECONDS) -> T:
        """Return what a function of azureml_jobs returns.

        :raises UserError: if it fails, or its time is up
        """
        return self._process.call(function, self._workspace, *arguments, seconds=seconds)


def _machine(azureml: settings.Azureml, resources: Resources) -> Machine:
    """Return what is to run a job.

    :raises UserError: if params.yaml does not say
    """
    kind = "gpu" if resources.gpus else "cpu"
    machine = azureml.gpu if resources.gpus else azureml.cpu
    if not (machine.compute or machine.instance_type):
        asks = f"{resources.gpus:g} GPUs" if resources.gpus else "no GPU"
        raise UserError(
            f"params.yaml: cluster.azureml.{kind} is empty, but there are jobs that ask for {asks}: name a compute of "
            "the workspace, or an instance_type of serverless compute"
        )
    return machine


def _end(name: str, seen: Seen) -> dict | Exception:
    """Return a job's result, or why there is none."""
    if seen.result is not None:
        return seen.result
    if seen.status == azureml_jobs.CANCELED:
        return UserError(f"{name} was cancelled on Azure ML: by somebody, or since it took too long there")
    return RuntimeError(f"Azure ML says of {name} that it is {seen.status}, and it left no result")
