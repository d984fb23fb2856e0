"""Time the stages of the built pipeline in portable and in native arithmetic, in turns, and compare their losses.

    python -m bench.arithmetic                 (`make bench-arithmetic`; some 25 minutes)
    python -m bench.arithmetic quantize        only these stages

Each stage runs once in each mode in a folder of its own, from the same inputs: those that are built here. Times are of
the processor, of all threads together, which other work on the machine changes least. It writes
reports/bench/arithmetic.json and prints a table.
"""

import argparse
import tempfile
from pathlib import Path

from bench.copies import copy_to, timed
from press.core import arithmetic, files, paths
from press.params import settings

MODES = (arithmetic.NATIVE, arithmetic.PORTABLE)
OUTPUT = paths.REPORTS / "bench" / "arithmetic.json"


def instances(params: settings.Settings, chosen: list[str]) -> list[list[str]]:
    """Return the words of each stage that computes with floats, in the pipeline's order."""
    adapters, targets = list(params.adapters), list(params.targets)
    stages = [
        ["quantize"],
        *(["finetune", adapter] for adapter in adapters),
        *(["capture", target] for target in targets),
        *(["convert", target, adapter] for target in targets for adapter in adapters),
        *(["evaluate", target] for target in targets),
    ]
    return [words for words in stages if not chosen or words[0] in chosen]


def losses(folder: Path, params: settings.Settings) -> dict[str, float]:
    """Return the held-out loss of each adapter's training."""
    metrics = {name: folder / paths.FINETUNED / name / paths.METRICS for name in params.adapters}
    return {name: files.read_json(path)["heldout"]["loss"] for name, path in metrics.items()}


def main(chosen: list[str]) -> None:
    """Run the stages, print the table and write the figures."""
    params = settings.load()
    seconds: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = {mode: Path(scratch) / mode for mode in MODES}
        for mode, folder in folders.items():
            copy_to(folder, {"arithmetic": mode})
        for words in instances(params, chosen):
            seconds[" ".join(words)] = {mode: timed(words, folder) for mode, folder in folders.items()}
        heldout_losses = {mode: losses(folder, params) for mode, folder in folders.items()}
    total = {mode: sum(each[mode] for each in seconds.values()) for mode in MODES}
    print("\n| stage | native, s | portable, s | ratio |\n|---|---|---|---|")
    for name, each in {**seconds, "all": total}.items():
        native, portable = (each[mode] for mode in MODES)
        print(f"| {name} | {native:.1f} | {portable:.1f} | {portable / native:.2f} |")
    for name in params.adapters:
        native, portable = (heldout_losses[mode][name] for mode in MODES)
        print(f"held-out loss of {name}: native {native:.6f}, portable {portable:.6f} ({portable - native:+.6f})")
    files.write_json(OUTPUT, {"seconds": seconds, "heldout_loss": heldout_losses})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", nargs="*", help="only these stages, such as quantize")
    main(parser.parse_args().stage)
