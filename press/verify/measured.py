"""Figures that ONNX Runtime measured, on machines of two classes: how far they may be from each other.

It chooses its kernels by the processor and cannot be told otherwise, so that the same model's figures differ in about
the fourth digit, and where two tokens are about as likely, an answer takes another turn. What PyTorch computes in
portable arithmetic, and every byte of a model, must be the same.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from press.core import files, nested, paths

FOLDERS = (paths.EVALUATED, paths.MACHINES / "evaluate")
# By the last part of a figure's name: how far apart two may be. Nats, but for shares of answers and tokens, and bytes.
TOLERANCES = {
    "loss": 0.01,
    "kl": 0.01,
    "weights": 0.01,
    "lm_head": 0.01,
    "activations": 0.01,
    "adapter_conversion": 0.01,
    "agreement": 0.02,
    "valid": 0.1,
    "exact": 0.1,
    "fields": 0.1,
    "chrf": 0.05,
    "bare": 0.2,
    "adapter": 0.2,
}
# Of the larger one; of perplexities, and of the metrics of benchmark tasks.
RELATIVE = {"perplexity": 0.01}
TASK = 0.05


@dataclass(frozen=True)
class Verdict:
    """Whether what another machine measured is near enough, and in words how near."""

    near: bool
    words: str


def is_measured(path: Path) -> bool:
    """Whether an output's bytes may depend on the machine that measured."""
    return any(path.is_relative_to(folder) for folder in FOLDERS)


def judge(path: Path, recorded: Path, rebuilt: Path) -> Verdict:
    """Compare a measured output of two projects.

    :param path: of the output, in both
    :param recorded: folder of the project whose dvc.lock it is
    :param rebuilt: folder of the rebuild
    """
    target = path.relative_to(next(folder for folder in FOLDERS if path.is_relative_to(folder))).parts[0]
    record = paths.MACHINES / "evaluate" / f"{target.removesuffix('.json')}.json"
    theirs, ours = ((folder / record).read_text(encoding="utf-8") for folder in (recorded, rebuilt))
    if theirs == ours:
        return Verdict(False, "measured on the same class of machine")
    machines = f"{_named(theirs)}, rebuilt on {_named(ours)}"
    if path.name == paths.METRICS:
        beyond = differences(files.read_json(recorded / path), files.read_json(rebuilt / path))
        if beyond:
            return Verdict(False, f"measured on {machines}: {'; '.join(beyond)}")
        return Verdict(True, f"figures within the tolerance; measured on {machines}")
    if path.name == paths.GATES and _verdicts(recorded / path) != _verdicts(rebuilt / path):
        return Verdict(False, f"a gate is passed on one machine only; judged on {machines}")
    return Verdict(True, f"follows from what was measured on {machines}")


def differences(recorded: dict, rebuilt: dict) -> list[str]:
    """Return in words each figure that is further from the recorded one than it may be, or that only one build has."""
    first, second = nested.flat(recorded), nested.flat(rebuilt)
    sentences = [f"{name} is in one build only" for name in sorted(first.keys() ^ second.keys())]
    for name in sorted(first.keys() & second.keys()):
        one, two = first[name], second[name]
        if one != two and not abs(one - two) <= _allowed(name, one, two):
            sentences.append(f"{name} is {one}, rebuilt {two}")
    return sentences


def _allowed(name: str, one: float, two: float) -> float:
    last = name.rpartition(".")[2]
    if ".pytorch." in name:
        return 0.0
    if name.startswith("tasks."):
        return TASK
    if ".fields." in name:
        return TOLERANCES["fields"]
    return TOLERANCES.get(last, RELATIVE.get(last, 0.0) * max(abs(one), abs(two)))


def _verdicts(path: Path) -> list[tuple[str, bool]]:
    return [(gate["gate"], gate["passed"]) for gate in files.read_json(path)["gates"]]


def _named(machine: str) -> str:
    """Name a class of machine by its vendor and the instruction sets that tell it from others."""
    facts = json.loads(machine)
    return f"{facts.get('vendor', facts['architecture'])} ({' '.join(facts.get('instruction_sets', []))})"
