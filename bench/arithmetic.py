"""Time the stages of the built pipeline in portable and in native arithmetic, in turns, and compare their losses.

    python -m bench.arithmetic                 (`make bench-arithmetic`; some 25 minutes)
    python -m bench.arithmetic quantize        only these stages

Each stage runs once in each mode in a folder of its own, from the same inputs: those that are built here. Times are of
the processor, of all threads together, which other work on the machine changes least. It writes
reports/bench/arithmetic.json and prints a table.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from press.core import arithmetic, files, paths, strict_yaml
from press.params import recorded, resolving, settings

MODES = (arithmetic.NATIVE, arithmetic.PORTABLE)
OUTPUT = paths.REPORTS / "bench" / "arithmetic.json"
# What a stage reads, besides the project's own files.
BUILT = ("models", "prepared", "reports")


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


def copy_to(folder: Path, mode: str) -> None:
    """Fill a folder with the project as it is built, in a mode of arithmetic."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, listed):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, folder / name)
    for name in BUILT:
        shutil.copytree(name, folder / name, dirs_exist_ok=True)
    # The code, parameters and outputs of this very run; what is there was written for the other mode.
    shutil.rmtree(folder / paths.CODE)
    (folder / paths.LOCK).unlink()
    text = (folder / paths.PARAMS).read_text(encoding="utf-8")
    values = strict_yaml.parse(text, paths.PARAMS)
    changed = text.replace(f"arithmetic: {values['arithmetic']}", f"arithmetic: {mode}", 1)
    (folder / paths.PARAMS).write_text(changed, encoding="utf-8")
    recorded.write(resolving.Resolved(folder / paths.PARAMS).values, folder)


def timed(words: list[str], folder: Path) -> float:
    """Run a stage in a folder; return the seconds that its processes had of a processor."""
    start = os.times()
    subprocess.run([sys.executable, "-m", f"stages.{words[0]}", *words[1:]], cwd=folder, check=True)
    end = os.times()
    return end.children_user + end.children_system - start.children_user - start.children_system


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
            copy_to(folder, mode)
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
