"""What is said of a package by what was measured: its metrics, what became of the gates, and its model card."""

from dataclasses import asdict
from pathlib import Path

from press.core import files, paths
from press.model import decoding
from press.package import card, contents
from press.params import gates, settings
from press.quality import ladder


def write(target: str, params: settings.Settings, metrics: dict, building: Path) -> list[gates.Result]:
    """Write metrics.json, gates.json and README.md beside what an evaluation left; return what became of the gates.

    :param metrics: of the evaluation; the package's size joins them
    :param building: the folder of the evaluation, which has its cases.jsonl
    """
    metrics = metrics | {"package": {"bytes": contents.size(target, params)}}
    cases = ladder.read_cases(building / paths.CASES)
    results = gates.judge(params.gates, metrics, params.adapters, cases)
    answers = decoding.measured(params.adapters, paths.BASE)
    files.write_json(building / paths.METRICS, metrics)
    files.write_json(building / paths.GATES, {"gates": [asdict(result) for result in results], "answers": answers})
    text = card.render(target, params, metrics, results, paths.BASE)
    (building / paths.CARD).write_text(text, encoding="utf-8")
    return results
