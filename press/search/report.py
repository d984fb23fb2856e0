"""What a search found: a table in Markdown, all figures as CSV, and a plot, in the folder `search`."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from press.params import gates
from press.search import objectives, plot
from press.search.settings import Spec
from press.search.study import Trial

FOLDER = Path("search")


@dataclass(frozen=True)
class Findings:
    """The trials of a search, and which of them are worth a look."""

    trials: list[Trial]
    front: list[Trial]
    chosen: Trial | None


def find(spec: Spec, trials: list[Trial]) -> Findings:
    """Tell the Pareto front and the best of the trials that satisfy all constraints."""
    feasible = [trial for trial in trials if trial.feasible]
    indices = objectives.front([_costs(spec.front, trial) for trial in feasible])
    chosen = objectives.best(feasible, lambda trial: _costs(spec.objectives, trial))
    return Findings(trials, [feasible[index] for index in indices], chosen)


def write(spec: Spec, findings: Findings) -> str:
    """Write report.md, trials.csv and front.svg; return the report's text."""
    FOLDER.mkdir(exist_ok=True)
    text = markdown(spec, findings)
    (FOLDER / "report.md").write_text(text, encoding="utf-8")
    (FOLDER / "trials.csv").write_text(table(spec, findings), encoding="utf-8")
    (FOLDER / plot.NAME).write_text(plot.svg(spec.front, points(spec, findings)), encoding="utf-8")
    return text


def markdown(spec: Spec, findings: Findings) -> str:
    """Return the report."""
    failed = [trial for trial in findings.trials if trial.metrics is None]
    built = [trial for trial in findings.trials if trial.metrics is not None]
    feasible = sum(trial.feasible for trial in built)
    parts = [
        f"# Search for {spec.target}",
        f"{'; '.join(map(str, spec.objectives))}, subject to {len(spec.constraints)} constraints: the gates"
        + "".join(f", `{each}`" for each in spec.search.constraints)
        + f". {len(findings.trials)} trials, of which {feasible} satisfy all constraints and {len(failed)} failed.",
        _choice(findings),
        f"## Pareto front\n\n{'; '.join(map(str, spec.front))}: none of these trials is beaten in all respects.",
        _rows(spec, findings.front, findings) if findings.front else "No trial satisfies all constraints.",
        f"![the trials: {', '.join(plot.KINDS)}]({plot.NAME})",
        f"## All trials\n\n{_rows(spec, built, findings)}" if built else "",
        "## Failed\n\n" + "\n".join(f"- {each.name} ({_cells(spec, each)}): {each.reason}" for each in failed)
        if failed
        else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(spec: Spec, findings: Findings) -> str:
    """Return all trials as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    keys, expressions = [each.key for each in spec.dimensions], _expressions(spec)
    writer.writerow(["trial", *keys, *expressions, "feasible", "front", "seconds", "failed"])
    for trial in findings.trials:
        figures = ["" if trial.metrics is None else gates.value(text, trial.metrics) for text in expressions]
        values = [json.dumps(trial.values[key]) for key in keys]
        flags = [int(trial.feasible), int(trial in findings.front)]
        writer.writerow([trial.name, *values, *figures, *flags, trial.seconds, trial.reason or ""])
    return buffer.getvalue()


def points(spec: Spec, findings: Findings) -> list[plot.Point]:
    """Return what the plot shows: the trials that were built."""
    return [
        plot.Point(
            trial.name,
            tuple(each.value(trial.metrics) for each in spec.front),
            feasible=trial.feasible,
            on_front=trial in findings.front,
            chosen=trial is findings.chosen,
        )
        for trial in findings.trials
        if trial.metrics is not None
    ]


def _choice(findings: Findings) -> str:
    if findings.chosen is None:
        return "No trial is chosen, since none satisfies all constraints."
    name = findings.chosen.name
    return f"Chosen: **{name}**. `make search APPLY={name}` puts it into params.yaml, its models into the workspace."


def _rows(spec: Spec, trials: list[Trial], findings: Findings) -> str:
    keys, expressions = [each.key for each in spec.dimensions], _expressions(spec)
    lines = ["| trial | " + " | ".join(keys + expressions) + " | misses | s |"]
    lines.append("|" + "---|" * (len(keys) + len(expressions) + 3))
    for trial in trials:
        name = f"**{trial.name}**" if trial is findings.chosen else trial.name
        values = [json.dumps(trial.values[key]) for key in keys]
        figures = [f"{gates.value(text, _metrics(trial)):,.6g}" for text in expressions]
        missed = "<br>".join(f"`{gate}`" for gate, violation in trial.violations.items() if violation > 0)
        lines.append("| " + " | ".join([name, *values, *figures, missed, f"{trial.seconds:.0f}"]) + " |")
    return "\n".join(lines)


def _cells(spec: Spec, trial: Trial) -> str:
    return ", ".join(f"{each.key}={json.dumps(trial.values[each.key])}" for each in spec.dimensions)


def _expressions(spec: Spec) -> list[str]:
    return list(dict.fromkeys(each.expression for each in (*spec.objectives, *spec.front)))


def _costs(goals: list[objectives.Objective], trial: Trial) -> list[float]:
    return [each.cost(each.value(_metrics(trial))) for each in goals]


def _metrics(trial: Trial) -> dict:
    """Return the metrics of a trial that was built."""
    return cast(dict, trial.metrics)
