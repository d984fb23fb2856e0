"""Vega-Lite drawn into SVG, in the colours of palette.css: those of the page around it, or its own."""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from xml.sax.saxutils import escape

from markupsafe import Markup

from press.core.errors import UserError

VEGA_LITE = "6.4"
BARE, ADAPTER, QUIET, GRID, SURFACE, INK, BAD = (
    f"var(--{name})" for name in ("bare", "adapter", "quiet", "grid", "surface", "ink", "bad")
)
# How much a wide page may enlarge a chart.
STRETCH = 1.15
CONFIG = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": QUIET,
        "titleColor": QUIET,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domainColor": GRID,
        "ticks": False,
        "labelPadding": 6,
    },
    "legend": {
        "labelColor": INK,
        "titleColor": QUIET,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "text": {"color": INK, "fontSize": 11},
}
# A mark that has a description, in Vega's own writing.
DESCRIBED = re.compile(r'(<path aria-label="([^"]*)" role="graphics-symbol"[^>]*)/>')


def palette() -> str:
    """Return the style sheet with the colours' variables, light and dark."""
    return resources.files("press.report").joinpath("palette.css").read_text(encoding="utf-8")


def embedded(spec: Mapping, title: str, description: str) -> Markup:
    """Return a chart as one <svg> for a page that has the palette.

    :param title: what it is, for those who cannot see it
    :param description: what it shows
    """
    width, height, marks = _draw({**spec, "config": CONFIG | {"aria": False}})
    head = f'class="chart" role="img" viewBox="0 0 {width:g} {height:g}" style="max-width:{width * STRETCH:.0f}px"'
    return Markup(f"<svg {head}>{_named(title, description)}{marks}</svg>")


def standalone(spec: Mapping, title: str, description: str) -> str:
    """Return a chart as an SVG file; a mark's description is the title that a browser shows when one points to it."""
    width, height, marks = _draw({**spec, "config": CONFIG})
    head = f'xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
    style = f"<style>\n{palette()}svg {{ background: var(--surface); }}\n</style>"
    marks = DESCRIBED.sub(r"\1><title>\2</title></path>", marks)
    return f"<svg {head}>{_named(title, description)}{style}{marks}</svg>\n"


def _draw(spec: dict) -> tuple[float, float, str]:
    """Return a chart's width and height in pixels, and what is in its <svg>."""
    drawn = _renderer().vegalite_to_svg(spec, vl_version=VEGA_LITE)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawn)[0]
    return float(width), float(height), drawn.partition(">")[2].removesuffix("</svg>")


def _named(title: str, description: str) -> str:
    return f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"


@cache
def _renderer():
    try:
        import vl_convert
    except ModuleNotFoundError as error:
        raise UserError("vl-convert-python, which draws the charts, is not installed: run `make install`") from error
    return vl_convert
