"""The quality ladder: what is lost or won from the base model to the ONNX model with an adapter, rung by rung.

A rung is one model on one text. Its name is that of its metrics: packing.pytorch.quantized, general.onnx.bare, or, for
an adapter on the general text, packing.general.onnx.adapter.
"""

import csv
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from press.core import files, nested
from press.core.errors import UserError
from press.data import examples, jsonl, templates
from press.data.examples import Example
from press.quality import scorecard, scoring, vocabulary
from press.quality.scoring import Scored
from press.quality.vocabulary import FIGURES, GENERAL, PAIRED, RUNGS, STEPS, Difference

# Of a text's examples, those kept with their own figures.
KEPT = 500
SHOWN = 80


class Ladder:
    """Rungs as they are scored, with the base's log-probabilities of each text in a file.

    :param texts: examples by the name of the text: an adapter's, for its held-out answers, or general
    :param references: an empty folder for the files
    """

    def __init__(self, texts: Mapping[str, list[Example]], references: Path) -> None:
        self.texts = texts
        self.rungs: dict[str, tuple[str, Scored]] = {}
        self._references = references

    def check_disk(self, vocabulary: int) -> None:
        """Refuse to begin where the disk is too small.

        :raises UserError: with what is needed and what is free
        """
        needed = sum(scoring.reference_bytes(text_examples, vocabulary) for text_examples in self.texts.values())
        free = shutil.disk_usage(self._references).free
        if needed > free:
            raise UserError(
                f"the base model's distributions take {files.readable(needed)} of disk while evaluate runs, but only "
                f"{files.readable(free)} are free: free {files.readable(needed - free)} more, or lower "
                "evaluate.general.rows or adapters.*.heldout"
            )

    def add(self, name: str, text: str, logits: Iterable[np.ndarray]) -> None:
        """Score a rung on a text; the first one on each text is the base, which the others are compared with."""
        reference, text_examples = self._references / text, self.texts[text]
        score = scoring.score if reference.exists() else scoring.record
        self.rungs[name] = (text, score(logits, text_examples, reference))

    def rejected(self, text: str) -> list[Example]:
        """Return the rejected answers of a text of pairs, none of another."""
        return [side for each in self.texts[text] for side in examples.sides(each)[1:]]

    def add_rejected(self, name: str, logits: Iterable[np.ndarray]) -> None:
        """Score a rung, which is scored on its text, on the text's rejected answers as well."""
        text, scored = self.rungs[name]
        scored.rejected = scoring.losses(logits, self.rejected(text))

    def prefer(self, text: str, beta: float) -> None:
        """Tell of an adapter that learned from pairs which of the held-out answers it prefers.

        :param text: of the adapter
        :param beta: by which it learned
        """
        for adapted, reference in vocabulary.REFERENCES.items():
            if f"{text}.{adapted}" in self.rungs:
                self.rungs[f"{text}.{adapted}"][1].compare(self.rungs[f"{text}.{reference}"][1], beta)

    def judge(self, name: str, given: Mapping[int, str], about: Mapping) -> None:
        """Judge a scored rung's own answers by the response schema and the right ones.

        :param given: the answer to an example's prompt, by the example's index
        :param about: what `prepare` says of the adapter
        """
        text, scored = self.rungs[name]
        scored.judged = {
            index: scorecard.judge(answer, self.right(text, index, about), about["response_schema"])
            for index, answer in given.items()
        }

    def right(self, text: str, index: int, about: Mapping) -> str:
        """Return the right answer to an example's prompt."""
        return templates.answer(about["template"], self.texts[text][index]["completion"])

    def metrics(self) -> dict:
        """Return the scores and attributions of all rungs, nested by their names."""
        scores: dict = {}
        for name in self._in_order():
            nested.put(scores, name.split("."), self.rungs[name][1].score())
        for text in self.texts:
            scores[text]["attribution"] = attribution(scores[text])
        return scores

    def cases(self, given: Mapping[str, list[str]]) -> list[dict]:
        """Return each example with its own figures; of a text with many, those with the largest loss of any rung.

        :param given: for each text, what its examples are called
        """
        cases = []
        for text, text_examples in self.texts.items():
            own = {name: self.rungs[name][1] for name in self._in_order() if self.rungs[name][0] == text}
            largest = [
                max(float(scored.losses[index].mean()) for scored in own.values())
                for index in range(len(text_examples))
            ]
            kept = sorted(np.argsort(np.negative(largest), kind="stable")[:KEPT])
            for index in kept:
                figures = {
                    f"{name}.{figure}": value
                    for name, scored in own.items()
                    for figure, value in scored.example(index).items()
                }
                cases.append({"text": text, "input": shown(given[text][index]), **figures})
        return cases

    def _in_order(self) -> list[str]:
        texts, rungs = list(self.texts), [rung.key for rung in RUNGS]
        return sorted(self.rungs, key=lambda name: (texts.index(name.split(".")[0]), rungs.index(_rung(name))))


def attribution(scores: Mapping) -> dict[str, float]:
    """Return what each step costs, in nats a token; below 0, it gains.

    The weights' cost is that of quantizing the linear layers, lm_head's that of the embedding's and lm_head's tables,
    the activations' all that the ONNX model adds, which computes with rounded ones; the graph's is these two in one.
    The adapter's conversion costs what ONNX adds to the model with the adapter, less what it adds to the bare one.

    :param scores: of one text, by runtime and rung; where a rung is missing, so are its steps
    """
    losses = {rung.key: score["loss"] for rung, score in vocabulary.scored(scores)}

    def cost(difference: Difference | None) -> float:
        return losses[difference.to] - losses[difference.start] if difference else 0.0

    return {
        name: round(cost(step.cost) - cost(step.other), scoring.DIGITS)
        for name, step in STEPS.items()
        if {*step.cost, *(step.other or ())} <= losses.keys() and step.unless not in losses
    }


def write_table(path: Path, metrics: Mapping, texts: Iterable[str]) -> None:
    """Write the ladder of each text as CSV, for a plot: text, rung, and the figures, empty where there is none.

    The figures of pairs have columns where an adapter learned from pairs.
    An adapter's ladder on the general text, ADAPTER.general, begins with the rungs that have no adapter.
    """
    ladders = {text: metrics[text] for text in texts}
    for name, scores in list(ladders.items()):
        if GENERAL in scores:
            ladders[f"{name}.{GENERAL}"] = {of: metrics[GENERAL][of] | own for of, own in scores[GENERAL].items()}
    rows = [(text, rung, score) for text, scores in ladders.items() for rung, score in vocabulary.scored(scores)]
    figures = [*FIGURES, *(figure for figure in PAIRED if any(figure in score for *_, score in rows))]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["text", "rung", *figures])
        for text, rung, score in rows:
            table.writerow([text, rung.short, *(score.get(figure, "") for figure in figures)])


def read_cases(path: Path) -> list[dict]:
    """Read cases, and add to their figures what follows from them: perplexities and attributions."""
    return [_completed(case) for case in jsonl.read(path)]


def shown(text: str) -> str:
    """Return a text in one short line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def _completed(case: dict) -> dict:
    losses: dict = {}
    for name, value in list(case.items()):
        rung, _, figure = name.rpartition(".")
        if figure == "loss":
            case[f"{rung}.perplexity"] = scoring.perplexity(value)
            nested.put(losses, rung.split("."), {"loss": value})
    for text, scores in losses.items():
        case |= {f"{text}.attribution.{step}": value for step, value in attribution(scores).items()}
    return case


def _rung(name: str) -> str:
    return ".".join(name.split(".")[-2:])
