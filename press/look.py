"""Show a few examples of an adapter as the model reads them, before anything is trained.

    python -m press.look       (`make look ADAPTER=...`)

What is learned is green in a terminal, and stands between ⟦ and ⟧ elsewhere; control tokens are as they are called, and
⏎ is a line break. Without an adapter, it is the one that comes first in params.yaml.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from press.core import cli, paths
from press.core.errors import UserError
from press.data.examples import Example
from press.model import checkpoints
from press.params import reading, settings
from press.training import asking, looking, preparation, preparation_report

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Lines that are read, examples of each split that are shown, and rejects.
LINES, SHOWN, REJECTS = 1000, 3, 10
LEARNED, CONTROL, PLAIN = "\033[32m", "\033[36m", "\033[0m"


def main() -> None:
    """Print the examples."""
    parser = argparse.ArgumentParser(
        "python -m press.look", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--adapter", default="", help="name of an adapter in params.yaml")
    name = parser.parse_args().adapter or reading.first("adapters")
    try:
        for line in shown(name, sys.stdout.isatty() and "NO_COLOR" not in os.environ):
            print(line, flush=True)
    except BrokenPipeError:
        # Who reads has seen enough, as `head` has; Python would flush once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def shown(name: str, colour: bool) -> Iterator[str]:
    """Yield what is to be said about an adapter's data.

    :raises UserError: if there is no such adapter, no base model, or a data set that cannot be read
    """
    project = settings.load()
    adapter = project.adapter(name)
    if not (paths.BASE / paths.CONFIG).is_file():
        raise UserError(f"{paths.BASE} is not there, whose tokenizer reads the data: run `dvc repro fetch`, then again")
    tokenizer = checkpoints.tokenizer(paths.BASE, project.base.trust_remote_code)
    asking.settle_thinking(name, adapter, tokenizer)
    prepared = preparation.look(adapter, tokenizer, checkpoints.eos_ids(paths.BASE), LINES)
    for split, examples in (("to train", prepared.train), ("held out", prepared.heldout)):
        assert isinstance(examples, list)
        for example in examples[:SHOWN]:
            for which, side in looking.sides(example):
                learned = looking.flags(side, adapter.training.response_only)
                what = "compared" if which else "learned"
                yield f"── {split}{which}: {len(learned)} tokens, {sum(learned)} of them {what}"
                yield text(tokenizer, side, learned, colour)
    rejects = prepared.rejects
    for reject in rejects[:REJECTS]:
        yield f"── line {reject.line}{f' of {reject.file}' if reject.file else ''}: {reject.reason}"
    if len(rejects) > REJECTS:
        yield f"── and {len(rejects) - REJECTS} more that do not fit"
    yield f"── of the first {LINES} lines:"
    yield from preparation_report.sentences(name, prepared)


def text(tokenizer: "PreTrainedTokenizerBase", example: Example, learned: list[bool], colour: bool) -> str:
    """Return an example's text as the model reads it, with what is learned marked."""
    parts = []
    for is_learned, run in groupby(looking.pieces(tokenizer, example, learned), key=lambda piece: piece.learned):
        joined = "".join(_shaded(piece) if colour else piece.text for piece in run)
        parts.append(f"⟦{joined}⟧" if is_learned and not colour else joined)
    return "".join(parts)


def _shaded(piece: looking.Piece) -> str:
    shade = CONTROL if piece.control else LEARNED if piece.learned else ""
    return f"{shade}{piece.text}{PLAIN}" if shade else piece.text


if __name__ == "__main__":
    cli.in_sentences(main)
