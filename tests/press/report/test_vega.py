"""A chart is one <svg>, for a page or by itself, with a name and a description for those who cannot see it."""

import builtins
from xml.etree import ElementTree as ET

import pytest

from press.core.errors import UserError
from press.report import vega

SVG = "{http://www.w3.org/2000/svg}"
SPEC = {
    "width": 100,
    "height": 50,
    "data": {"values": [{"x": 1, "told": 'one < two & "three"'}, {"x": 2, "told": "four"}]},
    "mark": {"type": "point", "filled": True, "color": vega.BARE},
    "encoding": {"x": {"field": "x", "type": "quantitative"}, "description": {"field": "told"}},
}
NAMES = ("A <chart>", "one & two")


def test_a_chart_for_a_page_takes_its_colours_from_the_page():
    text = vega.embedded(SPEC | {"encoding": {"x": SPEC["encoding"]["x"]}}, *NAMES)
    svg = ET.fromstring(text)
    assert (svg.get("class"), svg.get("role")) == ("chart", "img")
    assert (svg.findtext("title"), svg.findtext("desc")) == NAMES
    assert "var(--bare)" in text
    assert "<style" not in text
    assert "aria-label" not in text


def test_a_chart_by_itself_brings_its_colours_and_its_marks_tell_what_they_are():
    svg = ET.fromstring(vega.standalone(SPEC, *NAMES))
    assert svg.get("role") == "img"
    assert (svg.findtext(f"{SVG}title"), svg.findtext(f"{SVG}desc")) == NAMES
    assert vega.palette() in svg.findtext(f"{SVG}style")
    titles = [path.findtext(f"{SVG}title") for path in svg.iter(f"{SVG}path")]
    assert [title for title in titles if title] == [row["told"] for row in SPEC["data"]["values"]]


@pytest.mark.parametrize("draw", [vega.embedded, vega.standalone])
def test_the_picture_is_as_large_as_it_says(draw):
    svg = ET.fromstring(draw(SPEC, *NAMES))
    left, top, width, height = map(float, svg.get("viewBox").split())
    assert (left, top) == (0, 0)
    assert width > 100
    assert height > 50


def test_without_the_renderer_the_sentence_says_what_to_do(monkeypatch):
    whole = builtins.__import__

    def without(name: str, *others: object) -> object:
        if name == "vl_convert":
            raise ModuleNotFoundError(name=name)
        return whole(name, *others)

    vega._renderer.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        UserError, match="vl-convert-python, which draws the charts, is not installed: run `make install`"
    ):
        vega.embedded(SPEC, *NAMES)
