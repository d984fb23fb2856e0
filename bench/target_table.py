"""Test every execution provider and write what came out into docs/targets.json and docs/targets.md's table.

    python -m bench.target_table       half a minute

A test fails if docs/targets.md differs from the report, or the report's libraries from requirements.lock.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.architecture_table import ROOT, versions
from press import command, files
from press.providers import MERGED, PROVIDERS

DOCS = ROOT / "docs/targets.md"
REPORT = ROOT / "docs/targets.json"
MARKS = ("<!-- python -m bench.target_table writes this table -->\n", "<!-- end of the table -->\n")
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
    return {"versions": versions(), "providers": report}


def table(report: dict) -> str:
    """Return the report as a Markdown table."""
    lines = [f"| {' | '.join(HEAD)} |\n", f"|{'---|' * len(HEAD)}\n"]
    for name, one in report["providers"].items():
        provider = PROVIDERS[name]
        forms = [f"`{form}`" for form in provider.adapters]
        distances = [f"{one[kind]:.0e}" for kind in ("bare", "adapter")]
        cells = [f"`{name}`", provider.device, provider.needs, ", ".join(one["precisions"]), ", ".join(forms)]
        cells += [one["dtype"] or MERGED, ", ".join(one["loaded_by"]), *distances]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def inserted(text: str, report: dict) -> str:
    """Return the page's text with the table between its marks."""
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{table(report)}\n{MARKS[1]}{after}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tests = ["tests/test_targets.py", "-k", "not last_report"]
        words = [sys.executable, "-m", "pytest", "-q", *tests, f"--targets-report={folder}"]
        if subprocess.run(words, cwd=ROOT, check=False).returncode:
            sys.exit("error: a provider that press/providers.py lists does not pass")
        report = summary([files.read_json(path) for path in sorted(Path(folder).iterdir())])
    files.write_json(REPORT, report)
    DOCS.write_text(inserted(DOCS.read_text(encoding="utf-8"), report), encoding="utf-8")


if __name__ == "__main__":
    os.environ.update(command.ENVIRONMENT)
    main()
