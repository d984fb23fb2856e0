"""The charts of a report. What a chart shows stands in a table or a sentence beside it as well."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from press.report import vega
from press.report.figures import Ladder, size
from press.report.vega import ADAPTER, BAD, BARE, INK, QUIET, SURFACE

# Pixels of the plot itself; a column of labels stands before it where there are names.
WIDTH, LABELS = 250, 154
LONG = 370
ROW = 26
NAMES = {
    "type": "nominal",
    "sort": None,
    "title": None,
    "axis": {
        "labelColor": INK,
        "labelFontSize": 12,
        "labelLimit": LABELS - 10,
        "minExtent": LABELS,
        "maxExtent": LABELS,
        "domain": False,
    },
}


def ladder(climbed: Ladder) -> Markup:
    """Draw the losses of all rungs from the base downwards: bare rungs and adapters, in PyTorch and in ONNX."""
    rows = []
    rungs = [rung for rung in climbed.rungs if math.isfinite(rung.loss)]
    for index, rung in enumerate(rungs):
        colour = ADAPTER if rung.adapted else BARE
        rows.append(
            {
                "index": index,
                # A line joins the bare rungs, another one each adapter's.
                "of": rung.label.partition(", ")[2] if rung.adapted else "bare",
                "name": rung.label,
                "loss": rung.loss,
                "text": f"{rung.loss:.3f}",
                "stroke": colour,
                "fill": colour if rung.engine == "onnx" else SURFACE,
            }
        )
    losses = [rung.loss for rung in rungs] or [0]
    room = max(losses) - min(losses) or 1
    scale = {"domain": [min(losses) - room * 0.08, max(losses) + room * 0.25], "nice": False}
    x = {"field": "loss", "type": "quantitative", "title": "loss, nats a token", "scale": scale}
    point = {"stroke": {"field": "stroke", "scale": None}, "fill": {"field": "fill", "scale": None}}
    joined = {"order": {"field": "index"}, "detail": {"field": "of"}}
    return vega.embedded(
        {
            "width": WIDTH,
            "height": {"step": ROW},
            "data": {"values": rows},
            "encoding": {"x": x | {"axis": {"tickCount": 4}}, "y": NAMES | {"field": "name"}},
            "layer": [
                {"mark": {"type": "line", "color": QUIET, "strokeWidth": 1.5, "opacity": 0.5}, "encoding": joined},
                {"mark": {"type": "point", "size": 80, "strokeWidth": 2, "opacity": 1}, "encoding": point},
                {"mark": {"type": "text", "align": "left", "dx": 10}, "encoding": {"text": {"field": "text"}}},
            ],
        },
        f"Losses on {climbed.text}",
        "; ".join(f"{rung.label} {rung.loss:.3f}" for rung in climbed.rungs),
    )


def attribution(climbed: Ladder) -> Markup:
    """Draw what each step of a ladder cost, to the right what made it worse, to the left what made it better."""
    rows = [
        {
            "name": name,
            "cost": cost,
            "text": f"{cost:+.4f}".replace("-", "−"),
            "zero": 0,
            "fill": BAD if cost > 0 else BARE,
        }
        for name, cost in climbed.attribution.items()
        if math.isfinite(cost)
    ]
    reach = max((abs(row["cost"]) for row in rows), default=0) or 1
    low = min([0, *(row["cost"] for row in rows)])
    scale = {"domain": [low * 1.1 - (reach * 0.5 if low else 0), reach * 1.4], "nice": False}
    text = {"text": {"field": "text"}}
    return vega.embedded(
        {
            "width": WIDTH,
            "height": {"step": ROW},
            "data": {"values": rows},
            "encoding": {
                "x": {
                    "field": "cost",
                    "type": "quantitative",
                    "title": "added loss, nats a token",
                    "scale": scale,
                    "axis": {"tickCount": 4},
                },
                "y": NAMES | {"field": "name"},
            },
            "layer": [
                {
                    "mark": {"type": "bar", "height": 12, "cornerRadius": 2},
                    "encoding": {"x2": {"field": "zero"}, "fill": {"field": "fill", "scale": None}},
                },
                {
                    "transform": [{"filter": "datum.cost >= 0"}],
                    "mark": {"type": "text", "align": "left", "dx": 5},
                    "encoding": text,
                },
                {
                    "transform": [{"filter": "datum.cost < 0"}],
                    "mark": {"type": "text", "align": "right", "dx": -5},
                    "encoding": text,
                },
            ],
        },
        f"Where quality goes on {climbed.text}",
        "; ".join(f"{name} {cost:+.4f}" for name, cost in climbed.attribution.items()),
    )


def training(adapter: str, train: Sequence[tuple[int, float]], heldout: Sequence[tuple[int, float]]) -> Markup:
    """Draw the loss of each training step, their moving mean over nine, and the held-out losses."""
    axes = {
        "x": {"field": "step", "type": "quantitative", "title": "step", "axis": {"tickCount": 5, "grid": False}},
        "y": {
            "field": "loss",
            "type": "quantitative",
            "title": "loss, nats a token",
            "scale": {"zero": False},
            "axis": {"tickCount": 5, "minExtent": 30, "maxExtent": 30, "domain": False},
        },
    }
    window = {"window": [{"op": "mean", "field": "loss", "as": "mean"}], "frame": [-4, 4], "sort": [{"field": "step"}]}
    mean = {"y": axes["y"] | {"field": "mean"}}
    points = {"mark": {"type": "point", "size": 70, "filled": True, "opacity": 1, "color": ADAPTER, "shape": "diamond"}}
    label = {"type": "text", "align": "right", "dy": -12, "dx": 4, "color": ADAPTER, "fontWeight": "bold"}
    written = {"text": {"field": "loss", "format": ".3f"}}
    return vega.embedded(
        {
            "width": LONG,
            "height": 190,
            "encoding": axes,
            "layer": [
                {
                    "data": {"values": _steps(train)},
                    "layer": [
                        {"mark": {"type": "line", "color": BARE, "strokeWidth": 1, "opacity": 0.35}},
                        {
                            "transform": [window],
                            "mark": {"type": "line", "color": BARE, "strokeWidth": 2.5},
                            "encoding": mean,
                        },
                    ],
                },
                {
                    "data": {"values": _steps(heldout)},
                    "layer": [
                        {"mark": {"type": "line", "color": ADAPTER, "strokeWidth": 1.5, "strokeDash": [4, 3]}},
                        points,
                        # First in the page's colour and wider, so that the curves behind do not run through it.
                        {"mark": label | {"stroke": SURFACE, "strokeWidth": 4}, "encoding": written},
                        {"mark": label, "encoding": written},
                    ],
                },
            ],
        },
        f"Training losses of {adapter}",
        "; ".join(f"held out at step {step}: {loss:.3f}" for step, loss in heldout),
    )


def _steps(curve: Sequence[tuple[int, float]]) -> list[dict]:
    return [{"step": step, "loss": loss} for step, loss in curve if math.isfinite(loss)]


def histogram(adapter: str, bins: Sequence[tuple[int, int, int]]) -> Markup:
    """Draw how many examples have how many tokens."""
    rows = [{"from": low, "to": high + 1, "examples": count, "zero": 0} for low, high, count in bins]
    return vega.embedded(
        {
            "width": LONG,
            "height": 120,
            "data": {"values": rows},
            "encoding": {
                "x": {
                    "field": "from",
                    "type": "quantitative",
                    "title": "tokens of an example",
                    "scale": {"zero": False, "nice": False, "domain": [rows[0]["from"], rows[-1]["to"]]},
                    "axis": {"values": [row["from"] for row in rows][:: 1 + len(rows) // 9], "grid": False},
                },
                "x2": {"field": "to"},
                "y": {
                    "field": "examples",
                    "type": "quantitative",
                    "title": "examples",
                    "axis": {"tickCount": 3, "minExtent": 30, "maxExtent": 30, "domain": False},
                },
                "y2": {"field": "zero"},
            },
            "mark": {"type": "rect", "color": BARE, "stroke": SURFACE, "strokeWidth": 2},
        },
        f"Token lengths of {adapter}",
        "; ".join(f"{low} to {high} tokens: {count}" for low, high, count in bins),
    )


def sizes(values: Sequence[tuple[str, int]]) -> Markup:
    """Draw the bytes of each model."""
    rows = [
        {"name": name, "bytes": number / 1e6, "text": size(number), "fill": ADAPTER if name == "package" else BARE}
        for name, number in values
    ]
    return _bars(rows, "bytes", "MB", "Sizes on disk")


def speeds(values: dict[str, dict[str, float]], length: str) -> Markup:
    """Draw the tokens a second that each contestant decodes after a prompt of a length."""
    rows = [
        {"name": name, "speed": by[length], "text": f"{by[length]:.1f}", "fill": BARE}
        for name, by in values.items()
        if length in by
    ]
    return _bars(rows, "speed", "tokens a second", f"Decoding after {length} tokens")


def _bars(rows: list[dict], field: str, title: str, name: str) -> Markup:
    scale = {"domain": [0, max(row[field] for row in rows) * 1.25], "nice": False}
    axis = {"axis": {"tickCount": 4}, "stack": None}
    x = {"field": field, "type": "quantitative", "title": title, "scale": scale} | axis
    bar = {"mark": {"type": "bar", "height": 14, "cornerRadiusEnd": 2}}
    return vega.embedded(
        {
            "width": WIDTH,
            "height": {"step": ROW},
            "data": {"values": rows},
            "encoding": {"x": x, "y": NAMES | {"field": "name"}},
            "layer": [
                bar | {"encoding": {"fill": {"field": "fill", "scale": None}}},
                {"mark": {"type": "text", "align": "left", "dx": 5}, "encoding": {"text": {"field": "text"}}},
            ],
        },
        name,
        "; ".join(f"{row['name']} {row['text']}" for row in rows),
    )
