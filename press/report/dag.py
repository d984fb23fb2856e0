"""The pipeline's graph: stages in layers, each below all that it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from press.core import paths
from press.core.errors import UserError

# Pixels.
WIDTH, HEIGHT, GAP, DROP = 116, 42, 12, 26


@dataclass(frozen=True)
class Box:
    """A stage's place in the drawing, in pixels."""

    stage: str
    x: float
    y: float

    @property
    def words(self) -> tuple[str, str]:
        """What it does, and to what."""
        name, _, item = self.stage.partition("@")
        return name, item


@dataclass(frozen=True)
class Drawing:
    width: float
    height: float
    boxes: list[Box]
    # SVG path data
    edges: list[str]


def stages(root: Path = Path()) -> dict[str, set[str]]:
    """Map each stage of dvc.yaml, in its order, to the stages whose outputs it needs, as DVC resolves them.

    :raises UserError: if DVC cannot read the pipeline
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage import PipelineStage

    try:
        with Repo(str(root)) as repo:
            graph = repo.index.graph
            ours = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
            return {
                stage.addressing: {need.addressing for need in graph.successors(stage) if need in ours}
                for stage in ours
            }
    except DvcException as error:
        raise UserError(f"DVC cannot read {paths.PIPELINE}: {' '.join(str(error).split())}") from error


def reduced(needs: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Leave out each need that another need has anyway, directly or not."""
    below = {name: _reached(name, needs) for name in needs}
    return {
        name: {one for one in direct if not any(one in below[other] for other in direct)}
        for name, direct in needs.items()
    }


def layers(needs: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the stages in layers: each one below all that it needs, near the middle of what it needs."""
    depth: dict[str, int] = {}

    def deep(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max(map(deep, needs[name]), default=-1)
        return depth[name]

    rows: list[list[str]] = [[] for _ in range(1 + max(map(deep, needs), default=-1))]
    for name in needs:
        rows[depth[name]].append(name)
    place: dict[str, float] = {}
    for row in rows:
        row.sort(key=lambda name: sum(place[need] for need in needs[name]) / max(len(needs[name]), 1))
        place |= {name: index - (len(row) - 1) / 2 for index, name in enumerate(row)}
    return rows


def draw(needs: Mapping[str, set[str]]) -> Drawing:
    """Lay the stages out from top to bottom, each layer in the middle."""
    rows = layers(needs)
    width = max((len(row) for row in rows), default=0) * (WIDTH + GAP) + GAP
    boxes = {}
    for depth, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + GAP) + GAP) / 2
        for index, name in enumerate(row):
            boxes[name] = Box(name, left + index * (WIDTH + GAP), GAP + depth * (HEIGHT + DROP))
    edges = [
        _edge(boxes[need], boxes[name]) for name, direct in reduced(needs).items() for need in needs if need in direct
    ]
    return Drawing(width, 2 * GAP + len(rows) * (HEIGHT + DROP) - DROP, list(boxes.values()), edges)


def _edge(above: Box, below: Box) -> str:
    x1, y1, x2, y2 = above.x + WIDTH / 2, above.y + HEIGHT, below.x + WIDTH / 2, below.y
    middle = (y1 + y2) / 2
    return f"M{x1:g} {y1:g}C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}"


def _reached(name: str, needs: Mapping[str, set[str]]) -> set[str]:
    """Return all that a stage needs, directly or not, itself left out."""
    reached: set[str] = set()
    waiting = list(needs[name])
    while waiting:
        one = waiting.pop()
        if one not in reached:
            reached.add(one)
            waiting += needs[one]
    return reached
