"""The search on a cluster: each trial is a job. This process alone asks and tells the study.

A trial is one job, and not one for each of its stages, since DVC then decides itself what comes out of the run cache,
and a machine that has a trial's base model has it for all of its stages.
"""

import base64
import binascii
import json
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

from press.cluster import coordinator, plan, settings
from press.cluster.coordinator import Engine
from press.cluster.plan import Job
from press.cluster.settings import Cluster
from press.core import cli, paths, shell
from press.core.errors import UserError
from press.params import preset
from press.search import experiments, running, shared_dvc, sharing, space
from press.search import job as trial_job
from press.search.settings import Spec
from press.search.study import Study, Ticket, Trial

# Its resources are those of a trial, in the block `cluster` of params.yaml.
TRIAL = "trial"
# DVC, of a stage that it does not have in its cache.
BEGUN = re.compile(r"Running stage '(.+)':")
LOGS = Path("search/logs")


def search(
    spec: Spec,
    study: Study,
    start: Callable[[Cluster, bytes], Engine],
    say: Callable[[str], None],
    *,
    retry: bool = False,
) -> None:
    """Run trials on a cluster until there are as many as params.yaml says, or no other values are left.

    :param start: gives an engine to a snapshot of the project
    :param say: takes a line for each trial that begins or ends
    :param retry: whether trials that failed are run again
    :raises UserError: if there is no remote, the machines fail, or an objective cannot be told from the metrics
    """
    if spec.measures_speed:
        raise UserError(
            f"{paths.PARAMS}: search names a speed, which cannot be compared between a cluster's machines: leave "
            "speed.* out of objective, constraints and front, or leave out ENGINE"
        )
    cluster = settings.load()
    remote = coordinator.where()
    if url := remote.get("url"):
        Path(url).mkdir(parents=True, exist_ok=True)
    running.begin(spec, study, say, retry=retry)
    if len(study.trials) >= spec.search.trials:
        return
    # What is built here is not built again.
    shell.output(sys.executable, "-m", "dvc", "push", "--quiet")
    engine = start(cluster, snapshot())
    try:
        trials = Trials(spec, study, cluster, engine, remote, say)
        coordinator.check(trials.planned, engine)
        trials.to_its_end()
    finally:
        engine.stop()
    running.say_if_fewer(spec, study, say)


class Trials(coordinator.Run):
    """Trials that wait, that run and that have ended.

    A trial is asked for as soon as there is room for it, and so with all that is known by then: there are never more
    than `search.workers`, and never two that no machine has room for.
    """

    def __init__(
        self,
        spec: Spec,
        study: Study,
        cluster: Cluster,
        engine: Engine,
        remote: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        asked = settings.resources(cluster, TRIAL)
        self.planned = plan.Plan((Job(TRIAL, frozenset(), (), (), (), asked, None),), ())
        super().__init__(cluster, plan.Plan((), ()), engine, remote)
        self._logs = LOGS
        self._spec, self._study, self._say = spec, study, say
        self._baseline = experiments.git("rev-parse", "HEAD")
        self._text = experiments.git("show", f"{self._baseline}:{paths.PARAMS}") + "\n"
        self._wanted = experiments.wanted(spec.target)
        self._steps = sharing.steps(self._wanted)
        # Those that have been asked for and not ended, the marks of their stages, and those that are on the remote.
        self._tickets: dict[str, Ticket] = {}
        self._marks: dict[str, list[str]] = {}
        self._kept: set[str] = set()
        # The marks of stages that refused a trial's parameters, and what they said.
        self._refused: dict[str, str] = {}
        # Whether another one could be asked for, now or when there is room.
        self._asks = True

    def _begin_ready(self) -> None:
        if self._failed:
            return
        self._begin_those_that_wait()
        while self._asks and self._has_room():
            self._ask()
            self._begin_those_that_wait()

    def _has_room(self) -> bool:
        return len(self._tickets) < self._spec.search.workers and self._running.keys() <= self._machines.keys()

    def _ask(self) -> None:
        tickets = list(self._tickets.values())
        is_enough = len(self._study.trials) + len(tickets) >= self._spec.search.trials
        ticket = None if is_enough else self._study.ask(set(experiments.known()), tickets)
        if ticket is None:
            self._asks = False
            return
        self._say(running.began(self._spec, ticket, len(self._study.trials) + len(tickets) + 1))
        self._tickets[ticket.name] = ticket
        self._marks[ticket.name] = sharing.marks(self._steps, self._leaves(ticket))
        self._waiting[ticket.name] = Job(ticket.name, frozenset(), (), (), (), self.planned.jobs[0].resources, None)

    def _leaves(self, ticket: Ticket) -> dict[sharing.Leaf, object]:
        return {leaf: ticket.values[each.key] for each in self._spec.dimensions for leaf in each.leaves}

    def _begin_those_that_wait(self) -> None:
        self._prune()
        for name in list(self._waiting):
            shared = [sharing.shared_beginning(self._marks[name], self._marks[other]) for other in self._running]
            if all(each <= self._kept for each in shared):
                self._begin(self._waiting.pop(name))

    def _order(self, job: Job) -> dict:
        return {
            "module": trial_job.__name__,
            "name": job.stage,
            "params": self._params(job.stage),
            "stages": self._wanted,
            "remote": self._remote,
        }

    def _params(self, name: str) -> str:
        changes = space.changes(self._spec.dimensions, self._tickets[name].values)
        return preset.edited(self._text, changes)

    def _log(self, stage: str, line: str) -> None:
        if line:
            self._keep(stage, line)
        if line.startswith(shared_dvc.KEPT):
            self._remember_kept(stage, line.removeprefix(shared_dvc.KEPT).strip())
        # The empty line says that it has a machine.
        if not line or line.startswith(shared_dvc.KEPT):
            self._begin_ready()

    def _remember_kept(self, name: str, stage: str) -> None:
        """Remember that a trial's stage is on the remote, and so are all before it."""
        names = [step.stage for step in self._steps]
        if stage in names:
            self._kept.update(self._marks[name][: names.index(stage) + 1])

    def _finish(self, stage: str, result: dict) -> None:
        del self._running[stage]
        try:
            bundle = base64.b64decode(str(result.get("bundle")), validate=True)
            commit = experiments.take(stage, self._baseline, self._params(stage), bundle)
            metrics = json.loads(
                experiments.git("show", f"{commit}:{paths.EVALUATED / self._spec.target / paths.METRICS}")
            )
        except (UserError, binascii.Error, ValueError) as error:
            self._failed[stage] = str(error)
            return
        self._end(stage, lambda ticket: self._study.finish(ticket, metrics))

    def _reason(self, stage: str, said: dict | Exception) -> tuple[str, bool]:
        reason, of_machine = super()._reason(stage, said)
        return reason, of_machine or (isinstance(said, dict) and said["code"] == shared_dvc.AWAY)

    def _give_up(self, stage: str, reason: str, *, of_machine: bool) -> None:
        """Tell the study that a trial failed, or end the search, which then begins it again, if machines did."""
        if of_machine:
            self._failed[stage] = cli.FULL_DISK if cli.tells_of_full_disk(reason) else reason
        else:
            self._remember_refused(stage, reason)
            self._end(stage, lambda ticket: self._study.fail(ticket, reason))

    def _remember_refused(self, name: str, reason: str) -> None:
        """Remember a stage that has refused a trial's parameters, as it would those of all trials that share it.

        Not one that was late, nor `check`, which may refuse a machine, nor one that no parameter of the space reaches.
        """
        text = self._said(name)
        begun = BEGUN.findall(text.rpartition(shared_dvc.KEPT)[2])
        marks = dict(zip((step.stage for step in self._steps), self._marks[name], strict=True))
        mark = marks.get(begun[-1]) if begun else None
        is_its_word = shell.FAILED.search(text) and shell.reason_in(text) == reason
        if mark and is_its_word and mark not in sharing.marks(self._steps, {}):
            self._refused[mark] = f"{reason} (not built: its {begun[-1]} is that of {name})"

    def _prune(self) -> None:
        """End the trials with a stage that has refused its input in another one; those that run are cancelled."""
        for name, marks in list(self._marks.items()):
            reason = next((self._refused[mark] for mark in marks if mark in self._refused), None)
            if reason is not None:
                self._drop(name)
                self._end(name, partial(self._study.fail, reason=reason))

    def _end(self, name: str, tell: Callable[[Ticket], Trial]) -> None:
        trial = tell(self._tickets.pop(name))
        del self._marks[name]
        self._done.add(name)
        self._asks = True
        self._say(running.ended(self._spec, trial))

    def _summary(self) -> str:
        count = f"{len(self._study.trials)} of {self._spec.search.trials}"
        return f"{count} trials are done and kept; the same command goes on from here"

    def _where(self, stage: str) -> str:
        return f"{self._logs / stage}.log"


def snapshot() -> bytes:
    """Return a clone of the last commit without its history, and with the name by which trials are committed."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "clone")
        experiments.git("clone", "--quiet", "--depth=1", Path.cwd().as_uri(), str(folder))
        for key, fallback in (("user.name", "Olive Press"), ("user.email", "olive-press@localhost")):
            value = shell.run("git", "config", key).output.strip() or fallback
            shell.output("git", "config", key, value, folder=folder)
        # The machines do not have where it comes from.
        shell.output("git", "remote", "remove", "origin", folder=folder)
        packed = BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(folder, arcname=".", filter=coordinator.checked)
        return packed.getvalue()
