"""Let a built model answer a prompt, by the application that a package is for.

    python -m press.ask [PROMPT]       (`make ask PROMPT=...`, with TARGET=... and ADAPTER=...)

Without a target or an adapter, it is the one that comes first in params.yaml; without a prompt, the adapter's first
sample.
"""

import argparse
import os
import sys

from press.core import cli, paths
from press.params import reading, settings

APPLICATION = "app.py"
# Where an adapter has no samples.
QUESTION = "Who are you, and what can you do?"


def command(words: argparse.Namespace) -> list[str]:
    """Return the command line of the application.

    :raises UserError: if params.yaml has no such target
    """
    params = settings.load()
    target = words.target or reading.first("targets")
    params.target(target)
    adapter = words.adapter or reading.first("adapters")
    known = params.adapters.get(adapter)
    prompt = words.prompt or (known.samples[0] if known and known.samples else QUESTION)
    if not words.prompt:
        print(f"{adapter}: {prompt}")
    package = paths.PACKAGES / target
    return [sys.executable, APPLICATION, f"--package={package}", f"--adapter={adapter}", "--", prompt]


def main() -> None:
    """Become the application."""
    parser = argparse.ArgumentParser(
        "python -m press.ask", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prompt", nargs="?", default="")
    parser.add_argument("--target", default="", help="name of a target in params.yaml")
    parser.add_argument("--adapter", default="", help="name of an adapter in its package, or none")
    line = command(parser.parse_args())
    sys.stdout.flush()
    os.execv(line[0], line)


if __name__ == "__main__":
    cli.in_sentences(main)
