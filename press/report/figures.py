"""The figures of a report, out of its files: the ladder, answers, sizes and speed, in the order in which they are told.

What a build has not (a runtime for its target, benchmarks, tasks) is left out, not guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from press.core import nested
from press.data import answers, templates
from press.quality import vocabulary
from press.quality.vocabulary import FIGURES, GENERAL, JUDGED, PAIRED
from press.report.inputs import Inputs

ADAPTER = "adapter"
# Label, key among a contestant's figures for prompts of a length, and factor to the label's unit.
SPEEDS = (
    ("first token, ms", "ttft_s", 1000),
    ("prompt, tokens/s", "prompt_tokens_per_s", 1),
    ("decode, tokens/s", "decode_tokens_per_s", 1),
)

# What bench.runtime calls the package as it is shipped.
SHIPPED = "no adapter"


@dataclass(frozen=True)
class Rung:
    """A model's scores on a text; nats a token, and shares."""

    label: str
    # pytorch | onnx
    engine: str
    adapted: bool
    loss: float
    perplexity: float
    # None of the base itself, to which others are compared, and where they were not measured
    kl: float | None
    agreement: float | None
    # of its own answers, by the figure's name
    judged: dict[str, float]


@dataclass(frozen=True)
class Ladder:
    """All rungs on one text, and what each step down cost (nats a token)."""

    text: str
    rungs: list[Rung]
    attribution: dict[str, float]

    @property
    def compared(self) -> bool:
        """Whether rungs were compared with the base, token by token."""
        return any(rung.kl is not None for rung in self.rungs)

    @property
    def judged(self) -> list[str]:
        """The figures of the models' own answers."""
        return [name for name in JUDGED if any(name in rung.judged for rung in self.rungs)]


@dataclass(frozen=True)
class Answer:
    # bare, or an adapter's name
    model: str
    text: str
    # What is to be said about it, and whether that is good.
    remark: str
    good: bool
    # Whether the adapter's whose prompt it is.
    own: bool


@dataclass(frozen=True)
class Sample:
    """A prompt without its template, and what the adapter, perhaps the bare model and other adapters make of it."""

    prompt: str
    answers: list[Answer]


@dataclass(frozen=True)
class Tile:
    """A headline figure."""

    label: str
    value: str
    note: str


def ladders(inputs: Inputs) -> list[Ladder]:
    """Return the ladder of each text that was scored: the general one, then each adapter's held-out answers."""
    names = [name for name in (GENERAL, *inputs.adapters) if "pytorch" in inputs.metrics.get(name, {})]
    return [_ladder(inputs, name) for name in names]


def _ladder(inputs: Inputs, text: str) -> Ladder:
    rungs = [
        Rung(
            label,
            rung.engine,
            rung.name == ADAPTER,
            loss=score["loss"],
            perplexity=score["perplexity"],
            kl=score.get("kl"),
            agreement=score.get("agreement"),
            judged={name: score[name] for name in JUDGED if name in score},
        )
        for rung, label, score in vocabulary.ladder(inputs.metrics, text, inputs.adapters)
    ]
    costs = inputs.metrics[text].get("attribution", {})
    steps = {step.label: costs[name] for name, step in vocabulary.STEPS.items() if name in costs}
    return Ladder(text, rungs, steps)


def shares(inputs: Inputs, adapter: str) -> list[tuple[str, float, float]]:
    """Return what share of an adapter's answers is how, of the bare model and of the adapter."""
    metrics = inputs.metrics[adapter]
    return [
        (f"answers that {words}", metrics[key]["bare"], metrics[key]["adapter"])
        for key, words in vocabulary.SHARES.items()
        if key in metrics
    ]


def fields(inputs: Inputs, adapter: str) -> dict[str, float]:
    """Return the share of an adapter's answers that have the right value of a field, by the field's name."""
    return nested.flat(inputs.metrics[adapter].get(vocabulary.FIELDS, {}))


def samples(inputs: Inputs, adapter: str) -> tuple[list[Sample], list[Sample]]:
    """Return the answers to the samples of params.yaml, and those to held-out prompts."""
    params = inputs.params["adapters"][adapter]
    all_of_them = []
    for row in inputs.answers.get(adapter, []):
        bare = [("bare", row["bare"])] if "bare" in row else []
        texts = [*bare, (adapter, row["adapter"]), *row.get("others", {}).items()]
        given = [_answer(model, text, params["response_schema"], model == adapter) for model, text in texts]
        all_of_them.append(Sample(templates.given(inputs.template(adapter), row["prompt"]), given))
    first = len(params["samples"])
    return all_of_them[:first], all_of_them[first:]


def _answer(model: str, text: str, schema: dict | None, own: bool) -> Answer:
    if answers.loops(text):
        return Answer(model, text, "loops", False, own)
    if schema is None:
        return Answer(model, text, "", True, own)
    complaint = answers.complaint(text, schema)
    return Answer(model, text, complaint or "satisfies the schema", complaint is None, own)


def sizes(inputs: Inputs) -> list[tuple[str, int]]:
    """Return the bytes of each model on disk, in the order in which they are made."""
    return list(vocabulary.sizes(inputs.metrics))


def tiles(inputs: Inputs) -> list[Tile]:
    """Return the headline figures."""
    metrics = inputs.metrics
    headlines = [Tile("Package", size(metrics["package"]["bytes"]), f"base model {size(metrics['bytes']['base'])}")]
    for name in inputs.adapters:
        onnx, pytorch = metrics[name].get("onnx"), metrics[name]["pytorch"]
        if onnx:
            note = f"bare {onnx['bare']['perplexity']:.2f}, in PyTorch {pytorch['adapter']['perplexity']:.2f}"
            label = FIGURES["perplexity"].label.capitalize()
            headlines.append(Tile(f"{label} of {name}", f"{onnx['adapter']['perplexity']:.2f}", note))
            for figure in JUDGED:
                if figure in onnx["adapter"]:
                    label = FIGURES[figure].label.capitalize()
                    note = f"bare {share(onnx['bare'][figure])}"
                    headlines.append(Tile(f"{label} of {name}", share(onnx["adapter"][figure]), note))
    headlines += [tile for name in inputs.adapters for tile in _preferences(name, metrics[name])]
    bare = metrics.get(GENERAL, {}).get("onnx", {}).get("bare", {})
    if "kl" in bare:
        label, agreement = FIGURES["kl"].label, FIGURES["agreement"].label
        note = f"{agreement} {share(bare['agreement'])}" if "agreement" in bare else "on general text"
        headlines.append(Tile(f"{label} of the bare model", f"{bare['kl']:.3f}", f"nats a token from the base; {note}"))
    if inputs.speeds and (speeds := decoding(inputs.speeds)):
        name = SHIPPED if SHIPPED in speeds else next(iter(speeds))
        headlines.append(Tile("tokens a second, decoding", f"{max(speeds[name].values()):.1f}", f"{name}, at best"))
    return headlines


def _preferences(name: str, scores: Mapping) -> list[Tile]:
    """Return what an adapter that learned from pairs prefers, of ONNX where it was evaluated."""
    score = scores.get("onnx", scores["pytorch"])["adapter"]
    if "reward_accuracy" not in score:
        return []
    note = f"held-out pairs; mean {PAIRED['reward_margin'].label} {score['reward_margin']:+.2f}"
    label = PAIRED["reward_accuracy"].label.capitalize()
    return [Tile(f"{label} of {name}", share(score["reward_accuracy"]), note)]


def lengths(bench: Mapping) -> list[str]:
    """Return the prompt lengths of a benchmark, in tokens, from short to long."""
    return sorted({key for contestant in bench["contestants"].values() for key in contestant if key.isdigit()}, key=int)


def decoding(bench: Mapping) -> dict[str, dict[str, float]]:
    """Map each contestant to the tokens a second that it decodes after prompts of each length."""
    by_contestant = {}
    for name, contestant in bench["contestants"].items():
        speeds = {length: contestant.get(length, {}).get("decode_tokens_per_s") for length in lengths(bench)}
        by_contestant[name] = {length: speed for length, speed in speeds.items() if speed is not None}
    return {name: speeds for name, speeds in by_contestant.items() if speeds}


def tasks(inputs: Inputs) -> list[tuple[str, str, dict[str, float]]]:
    """Return task, metric and the model's results (bare, then by adapter) of lm-eval."""
    return [
        (task, metric, results)
        for task, by_metric in inputs.metrics.get("tasks", {}).items()
        for metric, results in by_metric.items()
    ]


def machines(inputs: Inputs) -> list[tuple[str, list[str]]]:
    """Return each kind of machine that took part, in words, with the stages that ran on it."""
    by_kind: dict[str, list[str]] = {}
    for stage, machine in inputs.machines.items():
        gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
        kind = f"{machine['architecture']} {machine.get('vendor', '')}, {machine.get('torch', '')}{gpu}"
        by_kind.setdefault(kind, []).append(stage)
    return list(by_kind.items())


def size(number: float) -> str:
    """Return bytes in the unit that suits them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.{2 if unit == 'GB' else 1}f}\N{NO-BREAK SPACE}{unit}"
    return f"{number:.0f} B"


def share(number: float) -> str:
    """Return a share in percent, with a decimal where whole percents hide that it is not all or nothing."""
    return f"{number:.1%}" if 0 < number < 0.01 or 0.99 < number < 1 else f"{number:.0%}"
