"""What the quality ladder's parts are called: by the metrics, and for readers of plots, cards and reports."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

# The text that is no adapter's.
GENERAL = "general"


@dataclass(frozen=True)
class Rung:
    """A model on the way from the base to what is shipped.

    :param engine: what runs it: pytorch | onnx
    :param name: among the metrics of its engine
    :param short: for a plot
    :param label: for a table
    """

    engine: str
    name: str
    short: str
    label: str

    @property
    def key(self) -> str:
        """The end of the metrics' names: ENGINE.NAME."""
        return f"{self.engine}.{self.name}"

    def label_of(self, adapter: str) -> str:
        """Return the label with an adapter's name."""
        return self.label.replace("adapter", adapter)


# In the order in which a model goes through them.
RUNGS = (
    Rung("pytorch", "base", "base", "PyTorch, base"),
    Rung("pytorch", "quantized", "quantized", "PyTorch, quantized"),
    Rung("pytorch", "head", "head", "PyTorch, lm_head"),
    Rung("onnx", "bare", "onnx bare", "ONNX, bare"),
    Rung("pytorch", "adapter", "adapter", "PyTorch, adapter"),
    Rung("onnx", "adapter", "onnx adapter", "ONNX, adapter"),
)


class Figure(NamedTuple):
    """A figure of a rung's score; `short` heads a column."""

    short: str
    label: str


FIGURES = {
    "loss": Figure("loss", "loss"),
    "perplexity": Figure("perplexity", "perplexity"),
    "kl": Figure("KL", "KL divergence"),
    "agreement": Figure("top-1", "top-1 agreement"),
    "valid": Figure("valid", "valid answers"),
    "exact": Figure("exact", "exact answers"),
    "fields": Figure("fields", "right fields"),
    "chrf": Figure("chrF", "chrF of answers"),
}

# Of an adapter that learned from pairs of answers, on held-out ones.
PAIRED = {
    "reward_accuracy": Figure("preferred", "reward accuracy"),
    "reward_margin": Figure("margin", "reward margin"),
}

# Those of a model's own answers to held-out prompts: the last one of text, the others where there is a response schema.
JUDGED = ("valid", "exact", "fields", "chrf")


# What an adapter's rung is compared with for its rewards: the same without the adapter.
REFERENCES = {"pytorch.adapter": "pytorch.quantized", "onnx.adapter": "onnx.bare"}


class Difference(NamedTuple):
    """The loss of one rung less that of another; both by their keys."""

    to: str
    start: str


@dataclass(frozen=True)
class Step:
    """What the attribution tells the cost of.

    :param cost: a difference in loss
    :param other: a difference in loss that has another cause, and is taken off
    :param unless: a rung by which the difference is told apart, so that it is no step where that has a score
    """

    label: str
    cost: Difference
    other: Difference | None = None
    unless: str | None = None


STEPS = {
    "weights": Step("weights", Difference("pytorch.quantized", "pytorch.base")),
    "lm_head": Step("embedding and lm_head", Difference("pytorch.head", "pytorch.quantized")),
    "activations": Step("activations", Difference("onnx.bare", "pytorch.head")),
    "graph": Step("the graph", Difference("onnx.bare", "pytorch.quantized"), unless="pytorch.head"),
    "adapter_conversion": Step(
        "adapter's conversion",
        Difference("onnx.adapter", "pytorch.adapter"),
        Difference("onnx.bare", "pytorch.quantized"),
    ),
}

# Of an adapter's answers: what they do.
SHARES = {"ended": "end by themselves", "looping": "loop"}
# Among an adapter's metrics: the share of right values of each field that its response schema names.
FIELDS = "fields"

# Of the metric `bytes`, in the order in which they are made.
SIZES = {"base": "base checkpoint", "quantized": "quantized checkpoint", "captured": "ONNX model"}


def scored(scores: Mapping) -> Iterator[tuple[Rung, dict[str, float]]]:
    """Yield the rungs that have a score on a text, with it, out of the text's metrics."""
    for rung in RUNGS:
        score = scores.get(rung.engine, {}).get(rung.name)
        if score:
            yield rung, score


def ladder(metrics: Mapping, text: str, adapters: Iterable[str]) -> Iterator[tuple[Rung, str, dict[str, float]]]:
    """Yield the rungs that have a score on a text, with their labels and scores.

    Those of the general text are followed by each adapter's on it, which are called by the adapter's name.
    """
    yield from ((rung, rung.label, score) for rung, score in scored(metrics.get(text, {})))
    if text == GENERAL:
        for name in adapters:
            yield from ((rung, rung.label_of(name), score) for rung, score in scored(metrics[name].get(GENERAL, {})))


def sizes(metrics: Mapping) -> Iterator[tuple[str, int]]:
    """Yield the label and the bytes on disk of each model that the metrics have."""
    on_disk = metrics["bytes"]
    yield from ((label, on_disk[name]) for name, label in SIZES.items() if name in on_disk)
    yield from ((f"adapter {name}", size) for name, size in on_disk.get("adapters", {}).items())
    if "package" in metrics:
        yield "package", metrics["package"]["bytes"]
