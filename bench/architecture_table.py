"""Test every architecture and write what came out into docs/architectures.json and the table of docs/models.md.

Below it stands which architectures were tried and are refused.

    python -m bench.architecture_table       about two minutes

A test fails if the page differs from the report, or the report's libraries from requirements.lock.
"""

import os

from bench import tested_table
from bench.tested_table import ROOT
from press.core import environment, files
from press.model import architectures

PAGE = ROOT / "docs/models.md"
REPORT = ROOT / "docs/architectures.json"
MARK = "<!-- python -m bench.architecture_table writes this table -->\n"
MARK_OF_REFUSED = "<!-- python -m bench.architecture_table writes this table, too -->\n"
HEAD = ("`model_type`", "models, such as", "rope", "LoRA on", "quantizers", "bare", "adapters", "int8 table")


def read() -> dict:
    """Return the last report."""
    return files.read_json(REPORT)


def summary(results: list[dict]) -> dict:
    """Put what single tests found together, architecture by architecture: the largest distance of each kind."""
    report: dict = {}
    for name in architectures.SUPPORTED:
        own = [result for result in results if result.get("model_type") == name]
        report[name] = {
            "models": len([result for result in own if "modules" in result]),
            "modules": sorted({module for result in own for module in result.get("modules", ())}),
            "algorithms": sorted({result["algorithm"] for result in own if "algorithm" in result}),
            **{kind: max(result[kind] for result in own if kind in result) for kind in ("bare", "adapters", "int8")},
        }
    return {"versions": tested_table.versions(), "architectures": report}


def table(report: dict) -> str:
    """Return the report as a Markdown table."""
    body = []
    for name, one in report["architectures"].items():
        supported = architectures.SUPPORTED[name]
        distances = [f"{one[kind]:.0e}" for kind in ("bare", "adapters", "int8")]
        modules = ", ".join(module.removesuffix("_proj") for module in one["modules"])
        cells = [f"`{name}`", supported.models, ", ".join(supported.rope_types), modules, ", ".join(one["algorithms"])]
        body.append([*cells, *distances])
    return tested_table.rows(HEAD, body)


def inserted(text: str, report: dict) -> str:
    """Return the page's text with the tables between their marks."""
    body = [[f"`{name}`", reason] for name, reason in architectures.REFUSED.items()]
    for name, supported in architectures.SUPPORTED.items():
        for key, reason in supported.reasons.items():
            values = " or ".join("left out" if value is None else f"`{value}`" for value in supported.values[key])
            body.append([f"`{name}` whose `{key}` is not {values}", reason])
    text = tested_table.inserted(text, MARK_OF_REFUSED, tested_table.rows(("`model_type`", "why it is refused"), body))
    return tested_table.inserted(text, MARK, table(report))


def main() -> None:
    tests = ["tests/test_architectures.py", "-k", "not table_of and not in_the_table and not locked_versions"]
    failure = "an architecture that press/model/architectures.py lists does not pass"
    report = summary(tested_table.measured(tests, "--architectures-report", failure))
    files.write_json(REPORT, report)
    PAGE.write_text(inserted(PAGE.read_text(encoding="utf-8"), report), encoding="utf-8")


if __name__ == "__main__":
    os.environ.update(environment.STAGE)
    main()
