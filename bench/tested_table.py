"""A Markdown table of what tests measured, in a page between two marks."""

import subprocess
import sys
import tempfile
from pathlib import Path

from press.core import files, packages

ROOT = Path(__file__).parents[1]
LIBRARIES = ("onnxruntime", "onnxruntime-genai", "olive-ai", "transformers", "peft", "torch")
END = "<!-- end of the table -->\n"


def versions() -> dict[str, str]:
    """Return the locked versions of the libraries that make or run a graph."""
    locked = packages.read(ROOT / "requirements.lock")
    return {name: locked[name] for name in LIBRARIES}


def measured(tests: list[str], option: str, failure: str) -> list[dict]:
    """Run tests that keep what they measure, a file each; return it, or exit with a sentence if one fails.

    :param option: of pytest, which names the folder
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "pytest", "-q", *tests, f"{option}={folder}"]
        if subprocess.run(words, cwd=ROOT, check=False).returncode:
            sys.exit(f"error: {failure}")
        return [files.read_json(path) for path in sorted(Path(folder).iterdir())]


def rows(head: tuple[str, ...], body: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), *body]
    first, *others = (f"| {' | '.join(cells)} |\n" for cells in lines)
    return first + f"|{'---|' * len(head)}\n" + "".join(others)


def inserted(text: str, mark: str, table: str) -> str:
    """Return a page's text with the table between the mark and the end."""
    before, _, rest = text.partition(mark)
    _, _, after = rest.partition(END)
    return f"{before}{mark}\n{table}\n{END}{after}"
