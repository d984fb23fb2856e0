"""Evaluate one target's model, bare and with each adapter, against PyTorch: the quality ladder and answers.

in:  adapters, device, evaluate, threads, targets.TARGET.provider (params.yaml), models/base, models/quantized,
     models/adapters, models/captured/TARGET, models/converted/TARGET, prepared, the general text, evaluate.tasks.folder
out: reports/evaluate/TARGET: metrics.json, ladder.csv (for a plot), cases.jsonl (the figures of single inputs) and
     answers.json; reports/machine/evaluate/TARGET.json, what it ran on
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from press.core import cli, files, machine
from press.core.errors import UserError
from press.data import answers, examples, rows, templates
from press.data.examples import Example
from press.model import checkpoints, device, head_tables
from press.params import settings
from press.quality import generation, ladder, scoring, tasks
from press.quality.ladder import GENERAL, Ladder
from press.verify import tensors

BASE = Path("models/base")
QUANTIZED = Path("models/quantized")
ADAPTERS = Path("models/adapters")
CAPTURED = Path("models/captured")
CONVERTED = Path("models/converted")
PREPARED = Path("prepared")
REPORTS = Path("reports/evaluate")
KNOBS = "adapters.*.max_seq_len or evaluate.general.row_tokens"


def read_texts(params: settings.Settings) -> dict[str, list[Example]]:
    """Return each adapter's held-out examples, and the general text."""
    found = {name: examples.read(PREPARED / name / "heldout.jsonl") for name in params.adapters}
    general = params.evaluate.general
    check_context(general.row_tokens)
    found[GENERAL] = rows.examples(Path(general.data), BASE, general.rows, general.row_tokens, f"evaluate.{GENERAL}")
    return found


def check_context(row_tokens: int) -> None:
    """Refuse rows of text that are longer than the base model's context."""
    context = files.read_json(BASE / "config.json").get("max_position_embeddings", row_tokens)
    if row_tokens > context:
        raise UserError(
            f"evaluate.general.row_tokens is {row_tokens}, but the base model's context is {context} tokens"
        )


def climb_pytorch(steps: Ladder, graph: Path, where: str, max_new_tokens: int) -> None:
    """Score the base, the quantized base, each adapter on it, and it with the graph's embedding and lm_head.

    All but the last answer the held-out prompts of those adapters that have a response schema. One model is in memory
    at a time.

    :param where: cpu or cuda
    :param max_new_tokens: tokens that an answer may have
    """
    from peft import PeftModel
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE, **checkpoints.trust(BASE))
    ends = checkpoints.eos_ids(BASE)
    schemas = {name: about(name)["response_schema"] for name in adapters(steps)}

    def add(model: object, rung: str, name: str, text: str) -> None:
        print(f"scoring {rung} in PyTorch on {text}", flush=True)
        steps.add(f"{name}.pytorch.{rung}", text, scoring.torch_logits(model, steps.texts[text]))

    def judge(model: object, rung: str, text: str) -> None:
        if schema := schemas.get(text):
            some = steps.texts[text]
            print(f"answering {len(some)} prompts of {text} in PyTorch by {rung}", flush=True)
            given = generation.answers(model, tokenizer, some, max_new_tokens, ends)
            steps.judge(f"{text}.pytorch.{rung}", [answers.valid(each, schema) for each in given])

    base = checkpoints.load(BASE)
    steps.check_disk(base.config.get_text_config().vocab_size)
    base = base.to(where)
    for text in steps.texts:
        add(base, "base", text, text)
        judge(base, "base", text)
    del base
    quantized = checkpoints.dequantize(checkpoints.load(QUANTIZED).to(where))
    for text in steps.texts:
        add(quantized, "quantized", text, text)
        judge(quantized, "quantized", text)
    for name in adapters(steps):
        model = PeftModel.from_pretrained(quantized, ADAPTERS / name).eval()
        add(model, "adapter", name, name)
        judge(model, "adapter", name)
        add(model, "adapter", f"{name}.{GENERAL}", GENERAL)
        quantized = model.unload()
    try:
        head_tables.put(quantized, head_tables.read(graph))
    except head_tables.UnreadableError as error:
        print(f"note: {error}; what embedding and lm_head cost was not evaluated")
        return
    for text in steps.texts:
        add(quantized, "head", text, text)


def climb_runtime(steps: Ladder, runtime) -> None:
    """Score the captured model, bare and with its adapter, on each adapter's held-out examples and general text."""

    def add(rung: str, name: str, text: str, adapter: str | None) -> None:
        print(f"scoring {rung} in ONNX on {text}", flush=True)
        logits = scoring.runtime_logits(lambda ids: runtime.logits(ids, adapter), steps.texts[text])
        steps.add(f"{name}.onnx.{rung}", text, logits)

    add("bare", GENERAL, GENERAL, None)
    for name in adapters(steps):
        check_tokenizer(runtime, steps.texts[name][0])
        add("bare", name, name, None)
        add("adapter", name, name, name)
        add("adapter", f"{name}.{GENERAL}", GENERAL, name)


def adapters(steps: Ladder) -> list[str]:
    """Return the names of the adapters whose held-out examples a ladder has."""
    return [text for text in steps.texts if text != GENERAL]


def check_tokenizer(runtime, example: Example) -> None:
    """Make sure that the runtime's tokenizer reads a prompt as the one that the adapter was trained with."""
    expected = example["input_ids"][: example["prompt_tokens"]]
    if runtime.encode(example["prompt"]) != expected:
        raise RuntimeError(f"onnxruntime-genai tokenizes {example['prompt']!r} otherwise than transformers")


def about(name: str) -> dict:
    """Return what `prepare` says of an adapter: its template, samples and response schema."""
    return files.read_json(PREPARED / name / "adapter.json")


def answer(steps: Ladder, runtime, name: str, max_new_tokens: int) -> tuple[list[dict], list[dict]]:
    """Let the bare model and the adapter answer samples and, under a response schema, the held-out prompts.

    The other adapters answer the samples, too, which shows what an adapter does to what it was not trained on.

    :return: the answers side by side, and for each prompt by the name of the metric whether it ended by itself and
        whether it loops
    """
    adapter = about(name)
    schema = adapter["response_schema"]
    prompts = adapter["samples"] + ([example["prompt"] for example in steps.texts[name]] if schema else [])
    print(f"answering {len(prompts)} prompts of {name} in ONNX", flush=True)
    table, cases = [], []
    for prompt in prompts:
        row = {"prompt": prompt}
        case = {"text": name, "input": ladder.shown(templates.given(adapter["template"], prompt))}
        for rung, active in (("bare", None), ("adapter", name)):
            row[rung], case[f"{name}.ended.{rung}"] = runtime.answer(prompt, active, max_new_tokens)
            case[f"{name}.looping.{rung}"] = answers.loops(row[rung])
        table.append(row)
        cases.append(case)
    for row in table[: len(adapter["samples"])]:
        others = [other for other in adapters(steps) if other != name]
        row["others"] = {other: runtime.answer(row["prompt"], other, max_new_tokens)[0] for other in others}
    if schema:
        for rung in ("bare", "adapter"):
            flags = [answers.valid(row[rung], schema) for row in table[len(adapter["samples"]) :]]
            steps.judge(f"{name}.onnx.{rung}", flags)
    return table, cases


def shares(name: str, cases: list[dict]) -> dict[str, dict[str, float]]:
    """Return the shares of an adapter's answers that ended and that loop."""
    found: dict[str, dict[str, float]] = {}
    for share in ("ended", "looping"):
        for rung in ("bare", "adapter"):
            flags = [case[f"{name}.{share}.{rung}"] for case in cases if f"{name}.{share}.{rung}" in case]
            if flags:
                found.setdefault(share, {})[rung] = round(sum(flags) / len(flags), scoring.DIGITS)
    return found


def inputs(steps: Ladder) -> dict[str, list[str]]:
    """Return what each text's examples are called: by what their prompts' fields hold, rows of text by their words."""
    found = {GENERAL: [example["completion"] for example in steps.texts[GENERAL]]}
    for name in adapters(steps):
        template = about(name)["template"]
        found[name] = [templates.given(template, example["prompt"]) for example in steps.texts[name]]
    return found


def ask_runtime(steps: Ladder, target: str, params: settings.Settings) -> tuple[dict, dict, list[dict]]:
    """Score the captured model and let it answer.

    :return: what the metrics have besides the ladder, the answers of each adapter, and the figures of single prompts
    """
    from press.model.runtime import Runtime

    paths = {name: CONVERTED / target / name / "adapter.onnx_adapter" for name in params.adapters}
    runtime = Runtime(CAPTURED / target, paths, params.threads)
    climb_runtime(steps, runtime)
    metrics, table, cases = {}, {}, []
    for name in params.adapters:
        table[name], own = answer(steps, runtime, name, params.evaluate.max_new_tokens)
        metrics[name] = shares(name, own)
        cases += own
    return metrics | tasks.run(runtime, params.evaluate.tasks, list(params.adapters)), table, cases


def evaluate(target: str, params: settings.Settings, folder: Path) -> dict:
    """Write ladder.csv, cases.jsonl and answers.json into `folder` and return the metrics."""
    import onnxruntime as ort

    tasks.rehearse(params.evaluate.tasks)
    captured, provider = CAPTURED / target, params.target(target).provider
    with scratch(folder / "references") as references:
        steps = Ladder(read_texts(params), references)
        with device.explained(KNOBS):
            where = device.resolve(params.device)
            climb_pytorch(steps, captured / tensors.GRAPH, where, params.evaluate.max_new_tokens)
        asked, table, cases = {}, {}, []
        if provider in ort.get_available_providers():
            asked, table, cases = ask_runtime(steps, target, params)
        else:
            print(f"note: {provider} is not on this machine; the ONNX model was not evaluated")
    metrics = steps.metrics()
    metrics |= {name: metrics.get(name, {}) | figures for name, figures in asked.items()}
    metrics["bytes"] = {
        "base": files.size(BASE),
        "quantized": files.size(QUANTIZED),
        "captured": files.size(captured),
        "adapters": {name: files.size(CONVERTED / target / name) for name in params.adapters},
    }
    ladder.write_table(folder / "ladder.csv", metrics, steps.texts)
    ladder.write_cases(folder / "cases.jsonl", steps.cases(inputs(steps)) + cases)
    files.write_json(folder / "answers.json", table)
    return metrics


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Make an empty folder, and remove it in the end."""
    folder.mkdir()
    try:
        yield folder
    finally:
        files.remove(folder)


def main(target: str) -> None:
    import torch

    params = settings.load()
    torch.set_num_threads(params.threads)
    with files.replaced(REPORTS / target) as building:
        files.write_json(building / "metrics.json", evaluate(target, params, building))
    machine.record(f"evaluate/{target}")
    print(f"{REPORTS / target}: see `dvc metrics show` and `dvc plots show`")


if __name__ == "__main__":
    cli.run(main)
