"""A search's trials as an SVG that needs nothing but a browser, in its light or dark colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from press.report import vega
from press.report.vega import ADAPTER, BAD, BARE, QUIET
from press.search.objectives import Objective

NAME = "front.svg"
WIDTH, HEIGHT = 620, 380
# Square pixels of the square around a mark: of all, or of the least and the most where they stand for an objective.
AREA, AREAS = 110, (50, 700)
# About so many on an axis.
TICKS = 6
# What a trial is: its colour and its shape.
CHOSEN, FRONT, BEATEN, MISSES = "chosen", "on the front", "beaten", "misses a constraint"
KINDS = {
    CHOSEN: (ADAPTER, "diamond"),
    FRONT: (BARE, "circle"),
    BEATEN: (QUIET, "square"),
    MISSES: (BAD, "cross"),
}


@dataclass(frozen=True)
class Point:
    """A trial: its name, its value for each objective, and what it is."""

    name: str
    values: tuple[float, ...]
    feasible: bool
    on_front: bool
    chosen: bool

    @property
    def kind(self) -> str:
        """One of KINDS."""
        if self.chosen:
            return CHOSEN
        if self.on_front:
            return FRONT
        return BEATEN if self.feasible else MISSES


def svg(front: Sequence[Objective], points: Sequence[Point]) -> str:
    """Draw the first objective upwards, the second (or the trials in turn) to the right, the third as the marks' area.

    A point with a value that is no number is left out.
    """
    rows = [
        {
            "name": point.name,
            "kind": point.kind,
            "y": point.values[0],
            "x": point.values[1] if len(front) > 1 else number,
            "area": point.values[2] if len(front) > 2 else AREA,
            "told": _told(front, point),
        }
        for number, point in enumerate(points, start=1)
        if all(map(math.isfinite, point.values))
    ]
    across = _axis(rows, "x", str(front[1])) if len(front) > 1 else _axis(rows, "x", "trial", _numbers(len(points)))
    return vega.standalone(
        {
            "width": WIDTH,
            "height": HEIGHT,
            "padding": 16,
            "data": {"values": rows},
            "encoding": {"x": across, "y": _axis(rows, "y", str(front[0]))},
            "layer": [_marks(front, rows), _names(len(front) > 2 and bool(rows))],
        },
        "Trials of the search",
        "; ".join(row["told"] for row in rows),
    )


def _told(front: Sequence[Objective], point: Point) -> str:
    figures = (f"{each.expression} {value:,.10g}" for each, value in zip(front, point.values, strict=True))
    return f"{point.name} ({point.kind}): {', '.join(figures)}"


def _axis(rows: Sequence[dict], field: str, title: str, ticks: Sequence[int] | None = None) -> dict:
    """Return an axis that shows all values, with some room at both ends.

    :param ticks: where there are to be ticks; None for round values
    """
    values = [row[field] for row in rows]
    low, high = min(values, default=0), max(values, default=1)
    room = 0.08 * (high - low) or abs(low) * 0.1 or 1
    scale = {"domain": [low - room, high + room], "nice": False, "zero": False}
    axis = {"tickCount": TICKS} if ticks is None else {"values": ticks, "format": "d"}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _numbers(count: int) -> list[int]:
    """Return the numbers of trials that stand at an axis."""
    return list(range(1, count + 1, 1 + count // (2 * TICKS)))


def _marks(front: Sequence[Objective], rows: Sequence[dict]) -> dict:
    colours, shapes = zip(*KINDS.values(), strict=True)
    legend = {"orient": "top", "title": None, "symbolSize": AREA, "columnPadding": 24}
    kind = {"field": "kind", "type": "nominal", "legend": legend}
    return {
        "mark": {"type": "point", "filled": True, "opacity": 0.75},
        "encoding": {
            "color": kind | {"scale": {"domain": list(KINDS), "range": colours}},
            "shape": kind | {"scale": {"domain": list(KINDS), "range": shapes}},
            "size": _size(front[2], rows) if len(front) > 2 and rows else {"value": AREA},
            "description": {"field": "told"},
        },
    }


def _size(objective: Objective, rows: Sequence[dict]) -> dict:
    ends = [function(row["area"] for row in rows) for function in (min, max)]
    legend = {
        "orient": "bottom",
        "title": f"area: {objective}",
        "titleOrient": "left",
        "titlePadding": 12,
        "values": sorted(set(ends)),
        "format": ",.4~r",
        "symbolFillColor": QUIET,
        "symbolStrokeColor": QUIET,
        "symbolType": "circle",
    }
    scale = {"domain": ends, "range": AREAS, "zero": False, "nice": False}
    return {"field": "area", "type": "quantitative", "scale": scale, "legend": legend}


def _names(scaled: bool) -> dict:
    """Return the names of the trials that are worth a look, above their marks."""
    area = "scale('size', datum.area)" if scaled else str(AREA)
    return {
        "transform": [{"filter": {"field": "kind", "oneOf": [CHOSEN, FRONT]}}],
        "mark": {"type": "text", "dy": {"expr": f"-sqrt({area}) / 2 - 8"}, "aria": False},
        "encoding": {"text": {"field": "name"}},
    }
