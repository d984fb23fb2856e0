"""What was made of a data set, for people: counts, token lengths, and the lines that were left out."""

import csv
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from press.core import files
from press.training.preparation import Prepared

# Width of the histogram's bins.
BIN_TOKENS = 16


def write(result: Prepared, folder: Path) -> None:
    """Write counts (report.json), the token-length histogram (lengths.csv) and the rejects with their lines."""
    lengths = result.lengths
    files.write_json(
        folder / "report.json",
        {
            "examples": {"train": len(result.train), "heldout": len(result.heldout)},
            "left_out": {
                "rejected": len(result.rejects),
                "duplicates": result.duplicates,
                "set_aside": result.set_aside,
            },
            "near_duplicates": result.near_duplicates,
            "trained_samples": len(result.trained_samples),
            "truncated": result.truncated,
            "tokens": {
                "min": min(lengths),
                "max": max(lengths),
                "total": sum(length * count for length, count in lengths.items()),
            },
        },
    )
    rejects = [{name: value for name, value in asdict(reject).items() if value} for reject in result.rejects]
    files.write_json(folder / "rejects.json", rejects)
    bins: Counter[int] = Counter()
    for length, count in lengths.items():
        bins[length // BIN_TOKENS] += count
    with (folder / "lengths.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["tokens", "examples"])
        for index in range(min(bins), max(bins) + 1):
            rows.writerow([f"{index * BIN_TOKENS:04}-{(index + 1) * BIN_TOKENS - 1:04}", bins[index]])


def sentences(adapter: str, result: Prepared) -> list[str]:
    """Return what the stage prints: what was guessed, what became of the lines, and what the device does otherwise."""
    left_out = len(result.rejects) + result.duplicates
    counts = f"{len(result.train)} to train, {len(result.heldout)} held out, {left_out} left out"
    aside = f", {result.set_aside} held out and set aside" if result.set_aside else ""
    lines = [result.guessed] if result.guessed else []
    lines.append(f"{adapter}: {counts}{aside}, {result.truncated} truncated")
    if result.trained_samples:
        known = ", ".join(map(json.dumps, sorted(result.trained_samples)))
        lines.append(f"{adapter}: trained on what is nearly a sample, whose answer it may know by heart: {known}")
    if result.rendered_otherwise:
        lines.append(
            f"{adapter}: onnxruntime-genai's chat template gives another prompt than transformers' for "
            f"{result.rendered_otherwise} of {len(result.train) + len(result.heldout)} examples: ask the adapter by "
            f"the template of prepared/{adapter}/adapter.json, as app.py does"
        )
    if result.conversations and not result.turn:
        lines.append(
            f"{adapter}: {result.conversations} examples have several questions, but the chat template writes a turn "
            "otherwise once others follow: the adapter is asked single questions"
        )
    return lines
