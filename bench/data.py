"""Time `prepare` and the reading of its examples on data sets of any size, and measure their memory.

    python -m bench.data --lines 10000 100000 1000000

It needs models/base, whose tokenizer reads the lines: about a kilobyte each, of English words in a random order, which
is harder for a tokenizer than sentences. Each size runs in a process of its own. Processor time counts all threads.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.memory import peak_bytes
from press.core import cli, files, paths
from press.data import jsonl
from press.model import checkpoints, device_tokenizer
from press.params import settings
from press.training import preparation

WORDS = Path("data/general.jsonl")
# Words of a question and of an answer.
ASKED, ANSWERED = 30, 140
# Examples that a training reads, and tokens of a row that they are packed into.
TRAINED, ROW = 10_000, 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--asked", type=int, default=ASKED, help="words of a question")
    parser.add_argument("--answered", type=int, default=ANSWERED, help="words of an answer")
    parser.add_argument("--template", default="chat")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.alone:
        measure(words)
        return
    for lines in words.lines:
        own = [f"--lines={lines}", f"--asked={words.asked}", f"--answered={words.answered}"]
        own += [f"--template={words.template}", "--alone"]
        subprocess.run([sys.executable, "-m", "bench.data", *own], check=True)


def measure(words: argparse.Namespace) -> None:
    """Print what one size takes."""
    (lines,) = words.lines
    # As the stage does.
    cli.collect_rarely()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = make(folder / "data.jsonl", lines, words)
        print(f"{lines} lines, {files.readable(data.stat().st_size)}", flush=True)
        adapter = settings.load().adapter("travel")
        changes = {"data": str(data), "template": words.template, "samples": [], "max_seq_len": 4096}
        with timed("prepare", lines):
            tokenizer = checkpoints.tokenizer(paths.BASE)
            device = device_tokenizer.Device(tokenizer)
            with jsonl.writing(folder / paths.TRAIN) as train, jsonl.writing(folder / paths.HELDOUT) as heldout:
                into = preparation.Prepared(train, heldout)
                eos = checkpoints.eos_ids(paths.BASE)
                preparation.prepare(adapter.model_copy(update=changes), tokenizer, eos, into, device)
        print(
            f"  {len(train)} to train, {len(heldout)} held out, {into.set_aside} set aside, "
            f"{sum(length * count for length, count in into.lengths.items())} tokens"
        )
        read(folder / paths.TRAIN)


def read(path: Path) -> None:
    """Print what the reading of the examples takes, as a training does it."""
    from passes import data, packing, trainer

    with timed("open", 1):
        examples = data.prepared_examples(str(path))
    with timed(f"read {TRAINED} in the training's order", TRAINED):
        for _ in trainer.training_order(examples, TRAINED, 42):
            pass
    with timed("pack all", len(examples)):
        packing.packed_rows(examples, ROW, 1, 42)


def make(path: Path, lines: int, words: argparse.Namespace) -> Path:
    """Write a data set."""
    known = " ".join(json.loads(line)["text"] for line in WORDS.read_text(encoding="utf-8").splitlines()).split()
    chance = random.Random(42)
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            asked, answer = (" ".join(chance.choices(known, k=count)) for count in (words.asked, words.answered))
            file.write(json.dumps({"prompt": f"{number} {asked}", "response": answer}) + "\n")
    return path


@contextmanager
def timed(what: str, count: int) -> Iterator[None]:
    """Print what a step took, all in all and for each of the things that it did."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    each = (
        f", {processor / count * 1e6:.0f} us of a processor and {wall / count * 1e6:.0f} us each" if count > 1 else ""
    )
    print(
        f"  {what}: {wall:.1f} s, {processor:.1f} s of processors{each}; peak {files.readable(peak_bytes())}",
        flush=True,
    )


if __name__ == "__main__":
    main()
