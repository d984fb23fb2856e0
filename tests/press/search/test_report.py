"""The report names the choice, and its plot is an SVG that needs nothing else."""

import csv
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.search import plot, report
from press.search.study import Trial

RANK = "adapters.travel.lora.rank"
SVG = "{http://www.w3.org/2000/svg}"


def trial(number: int, size: int, loss: float) -> Trial:
    metrics = {"travel": {"onnx": {"adapter": {"loss": loss}}}, "package": {"bytes": size}}
    missed = {"travel.onnx.adapter.loss <= 3": loss - 3}
    return Trial(f"search-000{number}", {"quantize.group_size": 32, RANK: number}, metrics, None, 1.5, missed)


TRIALS = [
    trial(1, 100, 2.5),
    trial(2, 90, 2.8),
    trial(3, 95, 2.9),
    trial(4, 10, 3.5),
    Trial("search-0005", {"quantize.group_size": 64, RANK: 5}, None, "64 does not divide 96", 2.0, {}),
]


def test_the_best_that_satisfies_all_constraints_is_chosen(load):
    spec = load()
    found = report.find(spec, TRIALS)
    assert found.chosen.name == "search-0002"
    assert [each.name for each in found.front] == ["search-0001", "search-0002"]
    text = report.write(spec, found)
    assert "Chosen: **search-0002**. `make search APPLY=search-0002`" in text
    assert "5 trials, of which 3 satisfy all constraints and 1 failed" in text
    assert "| search-0004 | 4 | 32 | 10 | 3.5 | `travel.onnx.adapter.loss <= 3` | 2 |" in text
    assert f"- search-0005 ({RANK}=5, quantize.group_size=64): 64 does not divide 96" in text
    rows = list(csv.DictReader(Path("search/trials.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["front"] for row in rows] == ["1", "1", "0", "0", "0"]
    assert rows[3]["package.bytes"] == "10"
    assert rows[4]["failed"] == "64 does not divide 96"


def test_several_objectives_choose_by_the_first(load):
    spec = load(objective=["minimize travel.onnx.adapter.loss", "minimize package.bytes"])
    assert report.find(spec, TRIALS).chosen.name == "search-0001"


def test_without_a_trial_that_fits_none_is_chosen(load):
    spec = load()
    for trials in ([], TRIALS[3:]):
        text = report.write(spec, report.find(spec, trials))
        assert "No trial is chosen" in text
        assert "No trial satisfies all constraints." in text


@pytest.mark.parametrize("front", [1, 2, 3])
def test_the_plot_shows_every_trial_that_was_built(load, front):
    some = ["minimize travel.onnx.adapter.loss", "minimize package.bytes", "maximize package.bytes / 2"]
    spec = load(front=some[:front])
    report.write(spec, report.find(spec, TRIALS))
    svg = ET.parse("search/front.svg").getroot()
    circles = svg.findall(f"{SVG}circle")
    assert [circle.get("class") for circle in circles].count("missed") == 1
    assert [circle.get("class") for circle in circles].count("chosen") == 1
    assert len(circles) == 4
    for circle in circles:
        assert 110 < float(circle.get("cx")) < 710
        assert 40 < float(circle.get("cy")) < 420
    assert len({circle.get("r") for circle in circles}) == (4 if front == 3 else 1)


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9))
def test_an_axis_has_some_round_values(low, span):
    scale = plot.Scale.over([low, low + span], 0, 100)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= plot.TICKS + 1
    assert all(-1e-3 <= scale(tick) <= 100.001 for tick in ticks)


def test_an_axis_of_one_value_shows_it():
    assert 3.0 in plot.Scale.over([3.0], 0, 100).ticks()
    assert plot.Scale.over([1.2e8, 1.5e8], 0, 100).ticks() == [1.2e8, 1.3e8, 1.4e8, 1.5e8]
