"""The plot tells trials apart by shape and colour, says what each of them is, and needs nothing but a browser."""

import math
import re
from xml.etree import ElementTree as ET

import pytest

from press.search import plot
from press.search.objectives import Objective
from press.search.plot import Point

SVG = "{http://www.w3.org/2000/svg}"
FRONT = [
    Objective("minimize", "general.onnx.bare.perplexity"),
    Objective("minimize", "package.bytes"),
    Objective("maximize", "speed.decode / 2"),
]
POINTS = [
    Point("search-0001", (63.6, 150.8e6, 77.6), feasible=True, on_front=True, chosen=True),
    Point("search-0002", (74.2, 136.7e6, 79.5), feasible=False, on_front=False, chosen=False),
    Point("search-0003", (69.8, 191.4e6, 66.3), feasible=True, on_front=False, chosen=False),
    Point("search-0004", (62.6, 157.7e6, 77.8), feasible=True, on_front=True, chosen=False),
]


def drawn(count: int, points: list[Point]) -> ET.Element:
    """The plot of the first objectives."""
    some = [Point(each.name, each.values[:count], each.feasible, each.on_front, each.chosen) for each in points]
    return ET.fromstring(plot.svg(FRONT[:count], some))


def titled(svg: ET.Element) -> list[ET.Element]:
    return [path for path in svg.iter(f"{SVG}path") if path.find(f"{SVG}title") is not None]


def marks(svg: ET.Element) -> dict[str, ET.Element]:
    """Map what a browser shows of each mark to the mark."""
    return {
        path.findtext(f"{SVG}title"): path for path in svg.iter(f"{SVG}path") if path.find(f"{SVG}title") is not None
    }


def places(svg: ET.Element) -> list[tuple[float, float]]:
    """Pixels to the right and downwards of each mark."""
    transforms = [re.fullmatch(r"translate\((.+),(.+)\)", mark.get("transform")) for mark in marks(svg).values()]
    return [(float(match[1]), float(match[2])) for match in transforms]


def texts(svg: ET.Element) -> list[str]:
    return [text.text for text in svg.iter(f"{SVG}text")]


def reach(mark: ET.Element) -> float:
    """The largest number in a mark's outline: half of its width."""
    return max(map(float, re.findall(r"\d+\.?\d*", mark.get("d"))))


def test_each_trial_tells_its_name_its_kind_and_its_figures():
    assert list(marks(drawn(3, POINTS))) == [
        "search-0001 (chosen): general.onnx.bare.perplexity 63.6, package.bytes 150,800,000, speed.decode / 2 77.6",
        "search-0002 (misses a constraint): general.onnx.bare.perplexity 74.2, package.bytes 136,700,000, "
        "speed.decode / 2 79.5",
        "search-0003 (beaten): general.onnx.bare.perplexity 69.8, package.bytes 191,400,000, speed.decode / 2 66.3",
        "search-0004 (on the front): general.onnx.bare.perplexity 62.6, package.bytes 157,700,000, "
        "speed.decode / 2 77.8",
    ]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_kinds_differ_in_shape_and_colour_and_have_a_legend(count):
    svg = drawn(count, POINTS)
    assert len({mark.get("fill") for mark in marks(svg).values()}) == len(plot.KINDS)
    # The letters of an outline are its shape, whatever its size.
    assert len({re.sub(r"[^A-Za-z]", "", mark.get("d")) for mark in marks(svg).values()}) == len(plot.KINDS)
    assert set(plot.KINDS) <= set(texts(svg))
    assert {"search-0001", "search-0004"} <= set(texts(svg))
    assert not {"search-0002", "search-0003"} & set(texts(svg))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_axes_are_the_objectives_and_what_is_less_lies_lower(count):
    svg = drawn(count, POINTS)
    titles = [str(each) for each in FRONT[: min(count, 2)]] + (["trial"] if count == 1 else [])
    assert set(titles) <= set(texts(svg))
    across, down = zip(*places(svg), strict=True)
    assert all(0 < x < plot.WIDTH for x in across)
    assert all(0 < y < plot.HEIGHT for y in down)
    ordered = sorted(range(len(POINTS)), key=lambda index: POINTS[index].values[0])
    assert sorted(range(len(POINTS)), key=lambda index: -down[index]) == ordered
    expected = [1, 2, 3, 4] if count == 1 else [point.values[1] for point in POINTS]
    assert sorted(range(len(POINTS)), key=lambda index: across[index]) == sorted(
        range(len(POINTS)), key=lambda index: expected[index]
    )


def test_without_a_second_objective_the_trials_stand_side_by_side_by_whole_numbers():
    (first, _), (second, _) = places(drawn(1, POINTS[:2]))
    assert first < second
    for count, numbers in ((2, {1, 2}), (5, {1, 2, 3, 4, 5}), (100, set(range(1, 101, 9)))):
        points = [Point(f"trial-{index}", (index / 1000,), True, False, False) for index in range(count)]
        assert {int(text) for text in texts(drawn(1, points)) if text.isdigit()} == numbers


def test_the_third_objective_is_the_area():
    chosen = [Point(f"trial-{value}", (1.0, 2.0, value), True, True, False) for value in (1.0, 2.0, 3.0)]
    areas = [(2 * reach(mark)) ** 2 for mark in marks(drawn(3, chosen)).values()]
    assert areas == pytest.approx([plot.AREAS[0], sum(plot.AREAS) / 2, plot.AREAS[1]], rel=0.01)
    assert "area: maximize speed.decode / 2" in texts(drawn(3, chosen))
    assert {"1", "3"} <= set(texts(drawn(3, chosen)))
    assert len({reach(mark) for mark in marks(drawn(2, chosen)).values()}) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("points", [[], POINTS[:1], POINTS[:1] * 3])
def test_few_trials_or_equal_ones_are_drawn(points, count):
    svg = drawn(count, points)
    assert len(titled(svg)) == len(points)
    assert "nan" not in ET.tostring(svg, encoding="unicode").lower()
    # Also the axis of a single value has values around it.
    assert len([text for text in texts(svg) if re.fullmatch(r"[\d.]+", text)]) > 4


def test_what_is_no_number_is_left_out():
    lost = [Point(f"search-1{value}", (value, 1.0, 1.0), True, True, False) for value in (math.nan, math.inf)]
    assert plot.svg(FRONT, [*lost, *POINTS]) == plot.svg(FRONT, POINTS)


def test_the_file_is_the_same_every_time_and_refers_to_nothing():
    text = plot.svg(FRONT, POINTS)
    assert plot.svg(FRONT, POINTS) == text
    svg = ET.fromstring(text)
    assert svg.tag == f"{SVG}svg"
    assert not re.search(r"href|url\(|@import|<script|<image|<foreignObject", text)
    assert svg.findtext(f"{SVG}title") == "Trials of the search"
    assert all(point.name in svg.findtext(f"{SVG}desc") for point in POINTS)


def test_its_colours_are_those_of_the_palette_light_and_dark():
    text = plot.svg(FRONT, POINTS)
    style = ET.fromstring(text).findtext(f"{SVG}style")
    light, dark = style.split("@media screen and (prefers-color-scheme: dark)")
    for name in set(re.findall(r"var\(--([\w-]+)\)", text)):
        assert re.search(rf"--{name}: #\w{{6}}", light)
        assert re.search(rf"--{name}: #\w{{6}}", dark)
    # Nothing is drawn in a colour that one of the two grounds would swallow.
    assert not re.search(r'(fill|stroke)="(?!none|var\(|transparent)', text)


def test_a_trial_whose_name_looks_like_markup_is_text():
    name = "<b>&\"'</b>"
    svg = drawn(2, [Point(name, (1.0, 2.0), True, True, True)])
    assert name in texts(svg)
    assert [told.partition(" (")[0] for told in marks(svg)] == [name]
