"""Let a built model answer, by the application that a package is for.

    python -m press.ask [PROMPT]       (`make ask PROMPT=...`, with TARGET=... and ADAPTER=...)

Without a target, it is the one that comes first in params.yaml. Without a prompt, the adapter's first sample is asked;
without an adapter either, one of each of the first adapters by name.
"""

import argparse
import sys

from press.core import cli, paths, shell
from press.params import reading, settings

APPLICATION = "app.py"
# Where an adapter has no samples.
QUESTION = "Who are you, and what can you do?"
SHOWN = 3


def questions(words: argparse.Namespace) -> list[tuple[str, str]]:
    """Return which adapters are asked, and what."""
    known = settings.load().adapters
    if words.prompt:
        return [(words.adapter or reading.first("adapters"), words.prompt)]
    samples = {name: adapter.samples[0] if adapter.samples else QUESTION for name, adapter in known.items()}
    names = [words.adapter] if words.adapter else list(samples)[:SHOWN]
    return [(name, samples.get(name, QUESTION)) for name in names]


def command(target: str, adapter: str, prompt: str) -> list[str]:
    """Return the command line of the application.

    :param target: or the first of params.yaml, if it is empty
    :raises UserError: if params.yaml has no such target
    """
    target = target or reading.first("targets")
    settings.load().target(target)
    package = paths.PACKAGES / target
    return [sys.executable, APPLICATION, f"--package={package}", f"--adapter={adapter}", "--", prompt]


def main() -> None:
    """Let the application answer."""
    parser = argparse.ArgumentParser(
        "python -m press.ask", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prompt", nargs="?", default="")
    parser.add_argument("--target", default="", help="name of a target in params.yaml")
    parser.add_argument("--adapter", default="", help="name of an adapter in its package, or none")
    words = parser.parse_args()
    for adapter, prompt in questions(words):
        print(f"{adapter}: {prompt}", flush=True)
        ended = shell.run(*command(words.target, adapter, prompt), shown="all")
        if ended.failed:
            sys.exit(ended.code or 1)


if __name__ == "__main__":
    cli.in_sentences(main)
