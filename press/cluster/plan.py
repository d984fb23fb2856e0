"""What there is to do: DVC's graph of stages, those of them that have changed, and what each of these needs."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from press.cluster import settings
from press.cluster.settings import Cluster, Resources
from press.core import files, run_cache
from press.params import recorded

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.stage import Stage

# Runs here, before all others, and says what the others are.
CHECK = "check"
# The stage that may run on several machines at once, by its adapter's training.nodes.
FINETUNE = "finetune"
# Seconds that each stage took when it last ran on a cluster.
TIMES = Path(".dvc/tmp/cluster/seconds.json")


@dataclass(frozen=True)
class Job:
    """A stage that is to run on a machine of the cluster.

    :param after: the jobs whose outputs it reads
    :param inputs: outputs of other stages that it reads, which DVC keeps
    :param outputs: its own that DVC keeps
    :param reports: its own that DVC does not keep
    :param seconds: what it took the last time, if that is known
    :param recorded: the stages whose lines of dvc.lock it needs: `check`, itself, and those that make its inputs
    """

    stage: str
    after: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reports: tuple[str, ...]
    resources: Resources
    seconds: float | None
    recorded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The jobs in an order in which they could run, and the stages that are up to date.

    :param lacking: outputs of the latter that are not here, or something else in their place
    """

    jobs: tuple[Job, ...]
    cached: tuple[str, ...]
    lacking: tuple[str, ...] = ()

    @property
    def brought(self) -> list[str]:
        """Outputs that jobs read and no job makes."""
        made = {path for job in self.jobs for path in job.outputs}
        return sorted({path for job in self.jobs for path in job.inputs} - made)

    def seconds(self) -> float | None:
        """Return how long the jobs take where nothing but their edges keeps them from running; None if not known."""
        ends: dict[str, float] = {}
        for job in self.jobs:
            if job.seconds is None:
                return None
            ends[job.stage] = job.seconds + max((ends[each] for each in job.after), default=0)
        return max(ends.values(), default=0)


def make(cluster: Cluster, *, brings_back: bool) -> Plan:
    """Compare the project with its dvc.lock: a stage that has changed is to run, and all that come after it.

    :param brings_back: whether what DVC's run cache has of such a stage is put in place, so that it is not to run
    """
    import networkx as nx
    from dvc.repo import Repo

    times = known_times()
    with Repo() as repo, repo.lock:
        graph = repo.index.graph
        stages = [stage for stage in nx.dfs_postorder_nodes(graph) if stage.cmd and stage.addressing != CHECK]
        there = Kept(out for out in repo.index.outs if out.use_cache)
        jobs: dict[str, Job] = {}
        for stage in stages:
            upstream = list(graph.successors(stage))
            after = frozenset(each.addressing for each in upstream) & jobs.keys()
            if after or _is_to_run(stage, upstream, brings_back=brings_back):
                name = stage.addressing
                asked = settings.resources(cluster, name, _nodes(name))
                kept, reports = _outputs(stage)
                inputs = there.read_by(stage)
                # A .dvc file's output is of no stage of dvc.lock.
                makers = {out.stage.addressing for out in inputs if out.stage.cmd}
                seconds = times.get(name)
                jobs[name] = Job(
                    name, after, _paths(inputs), kept, reports, asked, seconds, (CHECK, name, *sorted(makers))
                )
        cached = [stage for stage in stages if stage.addressing not in jobs]
        lacking = _paths(out for stage in cached for out in stage.outs if out.use_cache and out.workspace_status())
        return Plan(tuple(jobs.values()), tuple(each.addressing for each in cached), lacking)


def _is_to_run(stage: "Stage", upstream: list["Stage"], *, brings_back: bool) -> bool:
    """Whether a stage whose inputs are there has changed, and what it makes of them does not come out of the cache."""
    return stage.changed(allow_missing=True, upstream=upstream) and not (brings_back and run_cache.bring_back(stage))


def known_times() -> dict[str, float]:
    """Return the seconds of each stage as it last ran."""
    return json.loads(TIMES.read_text(encoding="utf-8")) if TIMES.exists() else {}


def _nodes(name: str) -> int:
    """Return on how many machines a stage runs at once, by what `check` wrote down."""
    stage, _, adapter = name.partition("@")
    if stage != FINETUNE:
        return 1
    return files.read_json(recorded.file_of(adapter))["training"]["nodes"]


class Kept:
    """The outputs that DVC keeps, by where they lie: to look at all of them for each stage would take the square."""

    def __init__(self, outs: Iterable["Output"]) -> None:
        self._at: dict[Path, Output] = {}
        self._below: defaultdict[Path, list[Output]] = defaultdict(list)
        for out in outs:
            path = _path(out)
            self._at[path] = out
            for parent in path.parents:
                self._below[parent].append(out)

    def read_by(self, stage: "Stage") -> list["Output"]:
        """Return the outputs of others that lie where a stage reads: there, around it, or in it."""
        found: dict[Path, Output] = {}
        for path in (_path(dep) for dep in stage.deps if dep.protocol == "local"):
            there = [self._at[each] for each in (path, *path.parents) if each in self._at]
            found |= {_path(out): out for out in (*there, *self._below.get(path, ()))}
        return [found[path] for path in sorted(found) if found[path].stage is not stage]


def _outputs(stage: "Stage") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return those outputs of a stage that DVC keeps, and the others."""
    return _paths(out for out in stage.outs if out.use_cache), _paths(out for out in stage.outs if not out.use_cache)


def _paths(outs: Iterable["Output"]) -> tuple[str, ...]:
    return tuple(str(_path(out)) for out in outs)


def _path(out: "Output") -> Path:
    """Return where an output or a dependency lies, from the project's folder."""
    return Path(out.fs_path).relative_to(Path.cwd())
