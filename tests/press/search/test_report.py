"""The report names the choice, the front and what failed, and shows the trials that were built."""

import csv
from pathlib import Path

from press.search import plot, report
from press.search.study import Trial

RANK = "adapters.travel.lora.rank"


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


def test_the_report_shows_the_plot(load):
    spec = load()
    text = report.write(spec, report.find(spec, TRIALS))
    assert f"]({plot.NAME})\n" in text
    svg = (report.FOLDER / plot.NAME).read_text(encoding="utf-8")
    assert svg == plot.svg(spec.front, report.points(spec, report.find(spec, TRIALS)))
    assert "search-0004 (misses a constraint): " in svg
    assert "search-0005" not in svg
