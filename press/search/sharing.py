"""Which trials have stages in common, told from their parameters alone, before anything is built.

Two trials that are built side by side would both build what they share. So one that begins with what another one is
building waits until that is on the remote. This says only when a trial begins: what comes out of the run cache, DVC
decides by the digests of all inputs.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from press.cluster import plan
from press.core import paths
from press.params import recorded

Leaf = tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """A stage, the stages before it that it reads from, and the keys of parameters that it reads."""

    stage: str
    after: tuple[str, ...]
    keys: tuple[Leaf, ...]


def steps(wanted: Sequence[str]) -> list[Step]:
    """Return the stages that some stages need, in the order in which DVC runs them; `check`, which is quick, aside."""
    import networkx as nx
    from dvc.repo import Repo

    with Repo() as repo:
        graph = repo.index.graph
        order = dict.fromkeys(
            stage
            for name in wanted
            for stage in nx.dfs_postorder_nodes(graph, repo.stage.get_target(name))
            if stage.cmd and stage.addressing != plan.CHECK
        )
        return [
            Step(
                stage.addressing,
                tuple(sorted(each.addressing for each in graph.successors(stage) if each in order)),
                tuple(tuple(key.split(".")) for dep in stage.deps for key in _keys(dep)),
            )
            for stage in order
        ]


def _keys(dep: Any) -> list[str]:
    from dvc.dependency import ParamsDependency

    path = Path(dep.def_path)
    if path == paths.RESOLVED_ADAPTERS:
        return [recorded.ADAPTERS]
    is_of_check = path == paths.RESOLVED or path.parent == paths.RESOLVED_ADAPTERS
    named = dep.params if isinstance(dep, ParamsDependency) and is_of_check else []
    return sorted(f"{recorded.prefix(path)}{key}" for key in named)


def marks(sequence: Sequence[Step], values: Mapping[Leaf, object]) -> list[str]:
    """Return for each stage what tells it from the same stage of other trials.

    :param values: what a trial sets each leaf of the space to
    """
    found: dict[str, str] = {}
    for step in sequence:
        read = {
            ".".join(leaf): value for leaf, value in values.items() if any(_overlap(leaf, key) for key in step.keys)
        }
        text = json.dumps([step.stage, [found[each] for each in step.after], read], sort_keys=True)
        found[step.stage] = hashlib.sha256(text.encode()).hexdigest()
    return [*found.values()]


def _overlap(one: Leaf, other: Leaf) -> bool:
    """Whether a key is another one, in it, or around it."""
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def shared_beginning(one: Sequence[str], other: Sequence[str]) -> set[str]:
    """Return the marks of the stages with which two trials begin and that they share."""
    return {mine for mine, _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=True))}
