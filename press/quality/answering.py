"""Let the captured model answer, bare and with its adapters, and tell what the answers are like."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from press.core import nested
from press.data import answers, templates
from press.params.schema import Evaluate
from press.quality import heldout, ladder, scorecard, scoring
from press.quality.ladder import Ladder
from press.quality.vocabulary import FIELDS, SHARES

if TYPE_CHECKING:
    from press.model.runtime import Runtime

BARE, ADAPTER = "bare", "adapter"


def answer(steps: Ladder, runtime: "Runtime", name: str, params: Evaluate) -> tuple[list[dict], list[dict]]:
    """Let an adapter answer its samples and held-out prompts, and the bare model the samples and some of the others.

    The other adapters answer the samples, too, which shows what an adapter does to what it was not trained on. All
    answer by the adapter's settings of generation, and none is held to the schema, by which they are judged.

    :return: the answers side by side, and for each prompt by the name of the metric whether it ended by itself,
        whether it loops, and under a response schema which fields are right
    """
    about, examples = heldout.about(name), steps.texts[name]
    asks = any(templates.given(about["template"], each["prompt"]) for each in examples)
    if not asks:
        # Plain text asks nothing, and what is written from its beginning is the same for all.
        examples = examples[:1]
    samples, settings = about["samples"], about["generation"]
    prompts = samples + [example["prompt"] for example in examples]
    few = [*range(len(samples)), *(len(samples) + index for index in heldout.chosen(examples, params.bare_answers))]
    table: list[dict[str, Any]] = [{"prompt": prompt} for prompt in prompts]
    cases: list[dict[str, Any]] = [
        {"text": name, "input": ladder.shown(templates.given(about["template"], prompt))} for prompt in prompts
    ]
    for rung, active, indices in ((BARE, None, few), (ADAPTER, name, list(range(len(prompts))))):
        print(f"answering {len(indices)} prompts of {name} in ONNX, {rung}", flush=True)
        given = runtime.answers([prompts[index] for index in indices], active, settings, free=True)
        for index, (text, ended) in zip(indices, given, strict=True):
            table[index][rung] = text
            cases[index] |= {f"{name}.ended.{rung}": ended, f"{name}.looping.{rung}": answers.loops(text)}
        own = {index - len(samples): table[index][rung] for index in indices if index >= len(samples)}
        if asks:
            steps.judge(f"{name}.onnx.{rung}", own, about)
    for other in (other for other in heldout.adapters(steps.texts) if other != name):
        for row, (text, _) in zip(table, runtime.answers(samples, other, settings, free=True), strict=False):
            row.setdefault("others", {})[other] = text
    if about["response_schema"]:
        _add_fields(steps, name, about, table[len(samples) :], cases[len(samples) :])
    return table, cases


def figures(name: str, cases: list[dict]) -> dict[str, dict]:
    """Return the shares of an adapter's answers that ended and that loop, and of right values of each field."""
    shares: dict[str, dict] = {}
    wanted = tuple(f"{name}.{share}." for share in (*SHARES, FIELDS))
    flags: dict[str, list[bool]] = {}
    for case in cases:
        for figure, flag in case.items():
            if figure.startswith(wanted):
                flags.setdefault(figure, []).append(flag)
    for figure, own in flags.items():
        path = figure.removeprefix(f"{name}.").split(".")
        nested.put(shares, path, round(sum(own) / len(own), scoring.DIGITS))
    return shares


def _add_fields(steps: Ladder, name: str, about: Mapping, table: list[dict], cases: list[dict]) -> None:
    for index, (row, case) in enumerate(zip(table, cases, strict=True)):
        right = scorecard.fields(row[ADAPTER], steps.right(name, index, about), about["response_schema"])
        case |= {f"{name}.{FIELDS}.{field}": flag for field, flag in right.items()}
