"""The command line of the runtime benchmark."""

import argparse
from pathlib import Path

from bench.runtime.contestants import LLAMA, TRANSFORMERS


def count(text: str) -> int:
    """Return the whole number of at least 1 that a word of the command line stands for."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 upwards")
    return int(text)


def duration(text: str) -> float:
    """Return the time that a word of the command line stands for, 0 or more."""
    try:
        if (number := float(text)) >= 0:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 upwards")


def parse(description: str, line: list[str] | None = None) -> argparse.Namespace:
    """Return what was chosen on the command line.

    :param line: its words; None for those that the process was started with
    """
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m bench.runtime", description=description, formatter_class=formatter)
    parser.add_argument("--package", type=Path, default=Path("packages/cpu"))
    parser.add_argument("--base", type=Path, default=Path("models/base"), help="the same model's checkpoint in fp32")
    parser.add_argument("--gguf", type=Path, help="the same model as a GGUF file; default: that of base.package")
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--lengths", type=count, nargs="+", default=[16, 256, 1024], help="tokens of the prompts")
    parser.add_argument("--rounds", type=count, default=11)
    parser.add_argument("--minutes", type=duration, default=8, help="no further round begins after so many minutes")
    parser.add_argument("--tokens", type=count, default=64, help="tokens decoded in a turn")
    parser.add_argument("--rows", type=count, default=16, help="rows of 256 tokens for the perplexity")
    parser.add_argument("--without", nargs="*", default=[], choices=[LLAMA, TRANSFORMERS], help="leave them out")
    return parser.parse_args(line)
