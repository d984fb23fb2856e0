"""What packing gains in training on a processor: time for a thousand tokens of examples, in rows and one by one.

    python -m bench.packing                          the adapter travel, as it is built here
    python -m bench.packing packing --batch 8 --rows 4

The stage `finetune` runs for a few steps and for more of them, so that what it does once is no part of the figures.
Times are of the processor, of all threads together, which other work on the machine changes least.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from bench.copies import copy_to, timed
from passes.packing import first_fit
from press.core import paths
from press.data import jsonl
from press.params import settings


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", nargs="?", default="travel")
    parser.add_argument("--batch", type=int, default=8, help="examples a step (default: 8)")
    parser.add_argument("--rows", type=int, default=2, help="packed rows a step (default: 2)")
    parser.add_argument("--steps", type=int, nargs=2, default=[4, 20], help="of the two runs (default: 4 20)")
    words = parser.parse_args()
    lengths = [len(each["input_ids"]) for each in jsonl.read(paths.PREPARED / words.adapter / "train.jsonl")]
    row_tokens = settings.load().adapter(words.adapter).max_seq_len
    a_row = sum(lengths) / len(first_fit(lengths, row_tokens))
    ways = {
        f"one by one, {words.batch} a step": (False, words.batch, words.batch * statistics.mean(lengths)),
        f"packed, {words.rows} rows of {row_tokens} a step": (True, words.rows, words.rows * a_row),
    }
    print("| | tokens a step | seconds a step | seconds a thousand tokens |\n|---|---|---|---|")
    for name, (packed, batch, tokens) in ways.items():
        few, more = (seconds(words.adapter, packed, batch, steps) for steps in words.steps)
        a_step = (more - few) / (words.steps[1] - words.steps[0])
        print(f"| {name} | {tokens:.0f} | {a_step:.2f} | {1000 * a_step / tokens:.2f} |", flush=True)


def seconds(adapter: str, packed: bool, batch: int, steps: int) -> float:
    """Return what a training of so many steps takes of the processor."""
    training = {"packing": packed, "batch_size": batch, "max_steps": steps, "warmup_steps": 1, "checkpoint_every": 1000}
    with tempfile.TemporaryDirectory() as folder:
        copy_to(Path(folder), {f"adapters.{adapter}.training.{key}": value for key, value in training.items()})
        return timed(["finetune", adapter], Path(folder))


if __name__ == "__main__":
    main()
