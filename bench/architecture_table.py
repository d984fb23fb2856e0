"""Test every architecture and write what came out into docs/architectures.json and README.md's table.

    python -m bench.architecture_table       about two minutes

A test fails if README differs from the report, or the report's libraries from requirements.lock.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from press import architectures, command, files, lock

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
REPORT = ROOT / "docs/architectures.json"
MARKS = ("<!-- python -m bench.architecture_table writes this table -->\n", "<!-- end of the table -->\n")
LIBRARIES = ("onnxruntime", "onnxruntime-genai", "olive-ai", "transformers", "peft", "torch")
HEAD = ("`model_type`", "models, such as", "rope", "LoRA on", "quantizers", "bare", "adapters", "int8 table")


def read() -> dict:
    """Return the last report."""
    return files.read_json(REPORT)


def versions() -> dict[str, str]:
    """Return the locked versions of the libraries that make or run a graph."""
    locked = lock.read(ROOT / "requirements.lock")
    return {name: locked[name] for name in LIBRARIES}


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
    return {"versions": versions(), "architectures": report}


def table(report: dict) -> str:
    """Return the report as a Markdown table."""
    lines = [f"| {' | '.join(HEAD)} |\n", f"|{'---|' * len(HEAD)}\n"]
    for name, one in report["architectures"].items():
        supported = architectures.SUPPORTED[name]
        distances = [f"{one[kind]:.0e}" for kind in ("bare", "adapters", "int8")]
        modules = ", ".join(module.removesuffix("_proj") for module in one["modules"])
        cells = [f"`{name}`", supported.models, ", ".join(supported.rope_types), modules, ", ".join(one["algorithms"])]
        lines.append(f"| {' | '.join([*cells, *distances])} |\n")
    return "".join(lines)


def inserted(text: str, report: dict) -> str:
    """Return README's text with the table between its marks."""
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{table(report)}\n{MARKS[1]}{after}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tests = ["tests/test_architectures.py", "-k", "not table_of and not in_the_table and not locked_versions"]
        words = [sys.executable, "-m", "pytest", "-q", *tests, f"--architectures-report={folder}"]
        if subprocess.run(words, cwd=ROOT, check=False).returncode:
            sys.exit("error: an architecture that press/architectures.py lists does not pass")
        report = summary([files.read_json(path) for path in sorted(Path(folder).iterdir())])
    files.write_json(REPORT, report)
    README.write_text(inserted(README.read_text(encoding="utf-8"), report), encoding="utf-8")


if __name__ == "__main__":
    os.environ.update(command.ENVIRONMENT)
    main()
