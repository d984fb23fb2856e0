"""Run the pipeline on a cluster: hand out what has changed, take what comes back, and bring the outputs here.

A job's inputs come from the DVC remote, and its outputs go there; the coordinator gets its lines of dvc.lock and its
reports. So what was done by then is kept whatever ends the coordinator, which builds nothing itself.
"""

import json
import os
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property
from io import BytesIO
from pathlib import Path

import yaml

from press.cluster import plan, results, settings
from press.cluster.engine import Engine
from press.cluster.plan import Job
from press.cluster.settings import Cluster
from press.core import cli, locks, paths, shell
from press.core.errors import UserError
from press.core.redaction import redacted
from press.model import nodes
from press.release import storage

FOLDER = Path(".dvc/tmp/cluster")
LOGS = FOLDER / "logs"
# Of the sentences in which a stage refuses its machine (press/core/packages.py, arithmetic.py): it may run on another.
OF_MACHINE = ("the environment differs from", "the libraries here compute a known product otherwise")


def reproduce(start: type[Engine], *, dry_run: bool = False) -> None:
    """Build what has changed as jobs, and bring all outputs here.

    :param start: gives an engine to a snapshot of the project
    :param dry_run: whether to say only what would be done
    :raises UserError: if a job failed, or there is no remote
    """
    from dvc import cli as dvc

    cluster = settings.load()
    with locks.alone(FOLDER / "lock", "this folder's pipeline runs on a cluster already: wait for it"):
        os.environ[nodes.CLUSTER] = "1"
        if code := dvc.main(["repro", plan.CHECK]):
            sys.exit(code)
        planned = plan.make(cluster, brings_back=not dry_run)
        show(planned, cluster, start)
        if dry_run:
            return
        if planned.jobs:
            _build(cluster, planned, start)
        if planned.jobs or planned.lacking:
            storage.pull(storage.SECONDS)


def _build(cluster: Cluster, planned: plan.Plan, start: type[Engine]) -> None:
    """Run the jobs of a plan; dvc.lock has their outputs then, which are on the remote.

    :raises UserError: if a job failed, or there is no remote
    """
    remote = where()
    if planned.brought:
        _push(planned.brought)
    engine = start(cluster, snapshot())
    try:
        check(planned, engine)
        Run(cluster, planned, engine, remote).to_its_end()
    finally:
        engine.stop()


class Run:
    """Jobs that wait, that run and that are done."""

    def __init__(self, cluster: Cluster, planned: plan.Plan, engine: Engine, remote: dict[str, str]) -> None:
        self._cluster = cluster
        self._engine = engine
        self._remote = remote
        self._waiting = {job.stage: job for job in planned.jobs}
        self._running: dict[str, Job] = {}
        self._count = len(planned.jobs)
        self._done: set[str] = set()
        self._failed: dict[str, str] = {}
        self._tries: Counter[str] = Counter()
        # Machines without room on their disk, and those that failed a job for another reason.
        self._full: set[str] = set()
        self._avoided: defaultdict[str, set[str]] = defaultdict(set)
        self._machines: dict[str, str] = {}
        self._logs = LOGS

    def to_its_end(self) -> None:
        """Run all jobs; where one fails, those that run end, and none is begun.

        :raises UserError: with the reason of each that failed
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        self._begin_ready()
        for stage, machine, said in self._engine.events():
            if stage not in self._running:
                # It was dropped meanwhile.
                continue
            self._machines[stage] = machine or self._machines.get(stage, "")
            if isinstance(said, str):
                self._log(stage, said)
                continue
            if isinstance(said, dict) and said["code"] == 0:
                self._finish(stage, said)
            else:
                self._fail(stage, said)
            self._begin_ready()
        if self._failed:
            failed = [f"{stage}: {reason} ({self._where(stage)})" for stage, reason in self._failed.items()]
            raise UserError("\n".join([*failed, self._summary()]))

    def _summary(self) -> str:
        return f"{len(self._done)} of {self._count} jobs are done and kept; the same command goes on from here"

    def _where(self, stage: str) -> str:
        """Say where a job's log is."""
        return f"`make logs JOB={stage}`"

    def _begin_ready(self) -> None:
        if self._failed:
            return
        for stage, job in list(self._waiting.items()):
            if job.after <= self._done:
                del self._waiting[stage]
                self._begin(job)

    def _begin(self, job: Job) -> None:
        self._tries[job.stage] += 1
        self._running[job.stage] = job
        (self._logs / f"{job.stage}.log").write_text("", encoding="utf-8")
        seconds = self._cluster.minutes * 60
        avoided = [self._full | self._avoided[job.stage], self._full]
        self._engine.submit(job.stage, json.dumps(self._order(job)), job.resources, seconds, avoided)
        print(f"{job.stage} is handed out", flush=True)

    @cached_property
    def _pipeline(self) -> dict:
        return yaml.safe_load(paths.PIPELINE.read_text(encoding="utf-8"))

    def _order(self, job: Job) -> dict:
        """Return what a job is told."""
        definition = job.stage.partition("@")[0]
        return {
            "stage": job.stage,
            "pipeline": {**self._pipeline, "stages": {definition: self._pipeline["stages"][definition]}},
            "inputs": job.inputs,
            "reports": job.reports,
            "lock": results.lock_of(job.recorded),
            "remote": self._remote,
        }

    def _drop(self, stage: str) -> None:
        """Cancel a job, or let it not begin."""
        self._waiting.pop(stage, None)
        if self._running.pop(stage, None):
            self._engine.cancel(stage)

    def _finish(self, stage: str, result: dict) -> None:
        try:
            seconds = results.take(self._running.pop(stage), result)
        except UserError as error:
            self._failed[stage] = str(error)
            return
        self._done.add(stage)
        print(f"{stage} is done in {seconds:.0f} s ({len(self._done)} of {self._count})", flush=True)

    def _fail(self, stage: str, said: dict | Exception) -> None:
        """Begin a job again if its machine is at fault, or give it up."""
        job = self._running.pop(stage)
        reason, of_machine = self._reason(stage, said)
        if of_machine and self._tries[stage] <= self._cluster.retries and not self._failed:
            print(f"{stage}: {reason}; it begins again", flush=True)
            if machine := self._machines.pop(stage, ""):
                (self._full if cli.tells_of_full_disk(reason) else self._avoided[stage]).add(machine)
            self._begin(job)
        else:
            self._give_up(stage, reason, of_machine=of_machine)

    def _give_up(self, stage: str, reason: str, *, of_machine: bool) -> None:
        """Let no job begin any more.

        :param of_machine: whether it is the machines' fault
        """
        self._failed[stage] = reason

    def _reason(self, stage: str, said: dict | Exception) -> tuple[str, bool]:
        """Return why a job failed, and whether that is its machine's fault."""
        if isinstance(said, UserError):
            return redacted(str(said)), False
        if isinstance(said, Exception):
            first = (str(said).strip() or type(said).__name__).splitlines()[0]
            return f"its machine failed ({redacted(first)})", True
        if said["late"]:
            return f"it did not end within cluster.minutes, {self._cluster.minutes}", False
        reason = shell.reason_in(self._said(stage))
        if said["code"] < 0:
            return f"it was killed (signal {-said['code']})", True
        return reason, cli.tells_of_full_disk(reason) or any(each in reason for each in OF_MACHINE)

    def _log(self, stage: str, line: str) -> None:
        """Keep a line that a job has said, and show it."""
        if line:
            self._keep(stage, line)
            print(f"{stage} | {line}", end="", flush=True)

    def _said(self, stage: str) -> str:
        return (self._logs / f"{stage}.log").read_text(encoding="utf-8", errors="replace")

    def _keep(self, stage: str, line: str) -> None:
        with (self._logs / f"{stage}.log").open("a", encoding="utf-8") as log:
            log.write(line)


def check(planned: plan.Plan, engine: Engine) -> None:
    """Refuse jobs for which no machine is there, or large enough.

    :raises UserError: naming the first
    """
    for job in planned.jobs:
        engine.check(job.stage, job.resources)


def show(planned: plan.Plan, cluster: Cluster, start: type[Engine]) -> None:
    """Print the jobs with their edges and resources, what is cached, and how long it might take."""
    for job in planned.jobs:
        asked = job.resources
        place = start.place(cluster, asked)
        on = f" on {place}" if place else ""
        gpus = f", {asked.gpus:g} GPUs" if asked.gpus else ""
        times = f"{count} machines of " if (count := settings.nodes(asked)) > 1 else ""
        after = f" after {', '.join(sorted(job.after))}" if job.after else ""
        took = f", {job.seconds:.0f} s the last time" if job.seconds is not None else ""
        print(f"{job.stage}: {times}{asked.cpus:g} cores, {asked.memory:g} GB{gpus}{on}{took}{after}")
    estimate = planned.seconds()
    at_best = f"; {estimate:.0f} s if no job waits for a machine" if planned.jobs and estimate is not None else ""
    print(f"{len(planned.jobs)} jobs, {len(planned.cached)} stages are up to date{at_best}", flush=True)


def snapshot() -> bytes:
    """Return the project's files as they are here, those that git leaves out aside, as a tar file.

    :raises UserError: if this is no git repository, or has a link to what is elsewhere
    """
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in _listed(Path()):
            archive.add(path, recursive=False, filter=checked)
    return packed.getvalue()


def checked(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Refuse what no machine unpacks."""
    try:
        tarfile.data_filter(member, str(Path.cwd()))
    except tarfile.FilterError as error:
        raise UserError(
            f"{member.name} is a link out of the project, to {member.linkname}, which no machine of a cluster has: put "
            "there what it leads to, or let git leave it out (.gitignore)"
        ) from error
    return member


def _listed(repository: Path) -> Iterator[Path]:
    """Yield the files and links of a repository that are there, and those of repositories in it."""
    listed = shell.output("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=repository)
    for path in (repository / name for name in sorted({*listed.split("\0")} - {""})):
        if path.is_symlink() or path.is_file():
            yield path
        elif (path / ".git").exists():
            yield from _listed(path)


def where() -> dict[str, str]:
    """Return the name and place of the default remote where that is a folder; the machines know others by their names.

    :raises UserError: if there is none
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with Repo() as repo:
        try:
            remote = repo.cloud.get_remote()
        except DvcException as error:
            raise UserError(
                "jobs get their inputs from the DVC remote, and there is none: `dvc remote add --default NAME URL`"
            ) from error
        return {"name": remote.name, "url": remote.path} if remote.fs.protocol == "local" else {}


def _push(outputs: list[str]) -> None:
    """Put what jobs read, and no job makes, on the remote.

    :raises UserError: if that fails
    """
    print(f"to the remote, for the jobs: {', '.join(outputs)}", flush=True)
    shell.output(sys.executable, "-m", "dvc", "push", "--quiet", *outputs)
