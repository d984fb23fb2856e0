"""Let the captured model answer, bare and with its adapters, and tell what the answers are like."""

from typing import TYPE_CHECKING, Any

from press.data import answers, templates
from press.quality import heldout, ladder, scoring
from press.quality.ladder import Ladder
from press.quality.vocabulary import SHARES

if TYPE_CHECKING:
    from press.model.runtime import Runtime


def answer(steps: Ladder, runtime: "Runtime", name: str) -> tuple[list[dict], list[dict]]:
    """Let the bare model and the adapter answer samples and, under a response schema, the held-out prompts.

    The other adapters answer the samples, too, which shows what an adapter does to what it was not trained on. All
    answer by the adapter's settings of generation, and none is held to the schema, by which they are judged.

    :return: the answers side by side, and for each prompt by the name of the metric whether it ended by itself and
        whether it loops
    """
    adapter = heldout.about(name)
    given = adapter["generation"]
    schema = adapter["response_schema"]
    prompts = adapter["samples"] + ([example["prompt"] for example in steps.texts[name]] if schema else [])
    print(f"answering {len(prompts)} prompts of {name} in ONNX", flush=True)
    table, cases = [], []
    for prompt in prompts:
        row: dict[str, Any] = {"prompt": prompt}
        case: dict[str, Any] = {"text": name, "input": ladder.shown(templates.given(adapter["template"], prompt))}
        for rung, active in (("bare", None), ("adapter", name)):
            row[rung], case[f"{name}.ended.{rung}"] = runtime.answer(prompt, active, given, free=True)
            case[f"{name}.looping.{rung}"] = answers.loops(row[rung])
        table.append(row)
        cases.append(case)
    for row in table[: len(adapter["samples"])]:
        others = [other for other in heldout.adapters(steps.texts) if other != name]
        row["others"] = {other: runtime.answer(row["prompt"], other, given, free=True)[0] for other in others}
    if schema:
        for rung in ("bare", "adapter"):
            texts = [row[rung] for row in table[len(adapter["samples"]) :]]
            steps.judge(f"{name}.onnx.{rung}", texts, adapter)
    return table, cases


def shares(name: str, cases: list[dict]) -> dict[str, dict[str, float]]:
    """Return the shares of an adapter's answers that ended and that loop."""
    found: dict[str, dict[str, float]] = {}
    for share in SHARES:
        for rung in ("bare", "adapter"):
            flags = [case[f"{name}.{share}.{rung}"] for case in cases if f"{name}.{share}.{rung}" in case]
            if flags:
                found.setdefault(share, {})[rung] = round(sum(flags) / len(flags), scoring.DIGITS)
    return found
