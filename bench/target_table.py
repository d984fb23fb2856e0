"""Test every execution provider and write what came out into docs/targets.json and docs/targets.md's table.

    python -m bench.target_table       half a minute

A test fails if docs/targets.md differs from the report, or the report's libraries from requirements.lock.
"""

import os

from bench import tested_table
from bench.tested_table import ROOT
from press.core import environment, files
from press.params.providers import MERGED, PROVIDERS

PAGE = ROOT / "docs/targets.md"
REPORT = ROOT / "docs/targets.json"
MARK = "<!-- python -m bench.target_table writes this table -->\n"
HEAD = ("provider", "device", "needs", "embedding, head", "adapters", "their type", "loaded by", "bare", "adapter")


def read() -> dict:
    """Return the last report."""
    return files.read_json(REPORT)


def summary(results: list[dict]) -> dict:
    """Put what single tests found together, provider by provider."""
    report: dict = {}
    for name, provider in PROVIDERS.items():
        own = [result for result in results if result.get("provider") == name]
        (computed,) = [result for result in own if "bare" in result]
        built = {result["precision"] for result in own if "precision" in result}
        report[name] = {
            "precisions": [precision for precision in provider.precisions if precision in built],
            "loaded_by": sorted({result["loaded_by"] for result in own if "loaded_by" in result}),
            **{key: computed[key] for key in ("dtype", "bare", "adapter")},
        }
    return {"versions": tested_table.versions(), "providers": report}


def table(report: dict) -> str:
    """Return the report as a Markdown table."""
    body = []
    for name, one in report["providers"].items():
        provider = PROVIDERS[name]
        forms = [f"`{form}`" for form in provider.adapters]
        distances = [f"{one[kind]:.0e}" for kind in ("bare", "adapter")]
        cells = [f"`{name}`", provider.device, provider.needs, ", ".join(one["precisions"]), ", ".join(forms)]
        body.append([*cells, one["dtype"] or MERGED, ", ".join(one["loaded_by"]), *distances])
    return tested_table.rows(HEAD, body)


def inserted(text: str, report: dict) -> str:
    """Return the page's text with the table between its marks."""
    return tested_table.inserted(text, MARK, table(report))


def main() -> None:
    tests = ["tests/test_targets.py", "-k", "not last_report"]
    failure = "a provider that press/params/providers.py lists does not pass"
    report = summary(tested_table.measured(tests, "--targets-report", failure))
    files.write_json(REPORT, report)
    PAGE.write_text(inserted(PAGE.read_text(encoding="utf-8"), report), encoding="utf-8")


if __name__ == "__main__":
    os.environ.update(environment.STAGE)
    main()
