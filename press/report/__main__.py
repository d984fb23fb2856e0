"""Write the report of a built target: report/TARGET.html, which opens anywhere, and report/TARGET.md, its twin.

    python -m press.report TARGET                 (`make report TARGET=cpu`)
    python -m press.report TARGET --since REV     (`make report TARGET=cpu SINCE=REV`)

It reads the package, reports/ and dvc.lock, also reports/bench/runtime.json and releases/TARGET if they are there.
"""

import argparse
from pathlib import Path

from press.core import cli
from press.params import reading, settings
from press.report import changes, dag, inputs, page

OUTPUT = Path("report")


def report(target: str, since: str | None) -> list[Path]:
    """Write both forms of a target's report and return their paths.

    :param since: a revision of git to compare dvc.lock with; None for that before its last change
    """
    settings.load().target(target)
    collected = inputs.collect(target)
    source = changes.source(since)
    needs = dag.stages()
    told = page.context(collected, source, needs, changes.compare(source.base, list(needs)))
    written = {".html": page.render_html(told), ".md": page.render_markdown(told)}
    OUTPUT.mkdir(exist_ok=True)
    paths = [OUTPUT / f"{target}{suffix}" for suffix in written]
    for path, text in zip(paths, written.values(), strict=True):
        # A model may answer with half a surrogate pair.
        path.write_text(text, encoding="utf-8", errors="replace")
    return paths


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        "python -m press.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="?", help="name of a target in params.yaml (default: the first)")
    parser.add_argument("--since", metavar="REV", help="revision to compare dvc.lock with, to see what reran")
    words = parser.parse_args()
    for path in report(words.target or reading.first("targets"), words.since):
        print(path)


if __name__ == "__main__":
    cli.in_sentences(main)
