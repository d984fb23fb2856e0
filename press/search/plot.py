"""A search's trials as an SVG that needs nothing but a browser, in its light or dark colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from press.search.objectives import Objective

NAME = "front.svg"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 480, 110, 50, 40, 60
SMALLEST, LARGEST = 5.0, 16.0
# At most so many on an axis.
TICKS = 6
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #222 } .axis { stroke: #999 } .grid { stroke: #ddd }
circle { fill: #8884; stroke: #888 } .missed { fill: none; stroke-dasharray: 3 2 }
.front { fill: #2a78d688; stroke: #2a78d6 } .chosen { fill: #d9822baa; stroke: #d9822b }
@media (prefers-color-scheme: dark) { svg { background: #161616 } text { fill: #ddd } .grid { stroke: #333 } }
"""


@dataclass(frozen=True)
class Point:
    """A trial: its name, its value for each objective, and what it is."""

    name: str
    values: tuple[float, ...]
    feasible: bool
    on_front: bool
    chosen: bool


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels, with some room at both ends."""

    low: float
    high: float
    first: float
    last: float

    @classmethod
    def over(cls, values: Sequence[float], first: float, last: float) -> "Scale":
        """Return the scale that shows all values."""
        low, high = min(values, default=0.0), max(values, default=1.0)
        room = 0.08 * (high - low) or abs(low) * 0.1 or 1.0
        return cls(low - room, high + room, first, last)

    def __call__(self, value: float) -> float:
        """Return a value's place."""
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Return round values at equal distances."""
        size = 10 ** math.floor(math.log10((self.high - self.low) / TICKS))
        step = next(each * size for each in (1, 2, 5, 10) if (self.high - self.low) / (each * size) <= TICKS)
        first = math.ceil(self.low / step)
        return [round(index * step, 12) for index in range(first, math.floor(self.high / step) + 1)]


def svg(front: Sequence[Objective], points: Sequence[Point]) -> str:
    """Draw the first objective upwards, the second (or the trials in turn) to the right, the third as circles' area."""
    ordinates = [point.values[0] for point in points]
    two = len(front) > 1
    abscissas = [point.values[1] if two else float(index + 1) for index, point in enumerate(points)]
    across = Scale.over(abscissas, LEFT, WIDTH - RIGHT)
    upwards = Scale.over(ordinates, HEIGHT - BOTTOM, TOP)
    areas = [point.values[2] for point in points] if len(front) > 2 else []
    labels = [str(front[1]) if two else "trial", str(front[0])]
    title = f"circles: {front[2]} ({min(areas):.4g} to {max(areas):.4g})" if areas else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">',
        f"<style>{STYLE}</style>",
        *_axes(across, upwards, labels, title),
        *(
            _circle(point, across(x), upwards(y), _radius(areas, index))
            for index, (point, x, y) in enumerate(zip(points, abscissas, ordinates, strict=True))
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axes(across: Scale, upwards: Scale, labels: Sequence[str], title: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>']
    for value in across.ticks():
        x = across(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:,.10g}</text>')
    for value in upwards.ticks():
        y = upwards(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,.10g}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(labels[0])}</text>')
    turned = f'transform="rotate(-90 16 {middle})"'
    parts.append(f'<text x="16" y="{middle}" text-anchor="middle" {turned}>{escape(labels[1])}</text>')
    parts.append(f'<text x="{right}" y="{TOP - 16}" text-anchor="end">{escape(title)}</text>')
    return parts


def _circle(point: Point, x: float, y: float, radius: float) -> str:
    kind = "chosen" if point.chosen else "front" if point.on_front else "" if point.feasible else "missed"
    figures = ", ".join(f"{value:.6g}" for value in point.values)
    shape = (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
        f"<title>{escape(point.name)}: {figures}</title></circle>"
    )
    if not point.on_front and not point.chosen:
        return shape
    return shape + f'<text x="{x:.1f}" y="{y - radius - 5:.1f}" text-anchor="middle">{escape(point.name)}</text>'


def _radius(areas: Sequence[float], index: int) -> float:
    if not areas or min(areas) == max(areas):
        return SMALLEST
    share = (areas[index] - min(areas)) / (max(areas) - min(areas))
    return (SMALLEST**2 + share * (LARGEST**2 - SMALLEST**2)) ** 0.5
