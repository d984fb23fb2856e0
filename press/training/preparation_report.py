"""What was made of a data set, for people: counts, token lengths, and the lines that were left out."""

import csv
from collections import Counter
from pathlib import Path

from press.core import files
from press.training.preparation import Prepared

# Width of the histogram's bins.
BIN_TOKENS = 16


def write(result: Prepared, folder: Path) -> None:
    """Write counts (report.json), the token-length histogram (lengths.csv) and the rejects with their lines."""
    everything = result.train + result.heldout
    lengths = [len(example["input_ids"]) for example in everything]
    files.write_json(
        folder / "report.json",
        {
            "examples": {"train": len(result.train), "heldout": len(result.heldout)},
            "left_out": {"rejected": len(result.rejects), "duplicates": result.duplicates},
            "near_duplicates": result.near_duplicates,
            "truncated": result.truncated,
            "tokens": {"min": min(lengths), "max": max(lengths), "total": sum(lengths)},
        },
    )
    files.write_json(folder / "rejects.json", [vars(reject) for reject in result.rejects])
    bins = Counter(length // BIN_TOKENS for length in lengths)
    with (folder / "lengths.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["tokens", "examples"])
        for index in range(min(bins), max(bins) + 1):
            rows.writerow([f"{index * BIN_TOKENS:04}-{(index + 1) * BIN_TOKENS - 1:04}", bins[index]])
