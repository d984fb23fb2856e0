"""Evaluate one target's model, bare and with each adapter, against PyTorch.

in:  adapters, device, evaluate, threads, targets.TARGET.provider (params.yaml), models/base, models/quantized,
     models/adapters, models/captured/TARGET, models/converted/TARGET, prepared, evaluate.tasks.folder
out: reports/evaluate/TARGET, metrics.json and answers.json; reports/machine/evaluate/TARGET.json, what it ran on
"""

from pathlib import Path

from press import answers, checkpoints, command, device, examples, files, machine, scoring, settings, tasks
from press.examples import Example

BASE = Path("models/base")
QUANTIZED = Path("models/quantized")
ADAPTERS = Path("models/adapters")
CAPTURED = Path("models/captured")
CONVERTED = Path("models/converted")
PREPARED = Path("prepared")
REPORTS = Path("reports/evaluate")
KNOBS = "adapters.*.max_seq_len"

Scores = dict[str, dict[str, dict[str, float]]]


def score_pytorch(heldout: dict[str, list[Example]], where: str) -> Scores:
    """Score the base, the quantized base and each adapter on it, on each adapter's held-out examples.

    :param where: cpu or cuda
    """
    from peft import PeftModel

    scores: Scores = {name: {} for name in heldout}

    def add(model: object, rung: str, names: list[str]) -> None:
        for name in names:
            print(f"scoring {rung} in PyTorch on {name}", flush=True)
            scores[name][rung] = scoring.score(scoring.torch_losses(model, heldout[name]))

    add(checkpoints.load(BASE).to(where), "base", list(heldout))
    quantized = checkpoints.dequantize(checkpoints.load(QUANTIZED).to(where))
    add(quantized, "quantized", list(heldout))
    for name in heldout:
        model = PeftModel.from_pretrained(quantized, ADAPTERS / name).eval()
        add(model, "adapter", [name])
        quantized = model.unload()
    return scores


def score_runtime(runtime, heldout: dict[str, list[Example]]) -> Scores:
    """Score the captured model, bare and with its adapter, on each adapter's held-out examples."""
    scores: Scores = {name: {} for name in heldout}
    for name, some in heldout.items():
        check_tokenizer(runtime, some[0])
        for rung, adapter in (("bare", None), ("adapter", name)):
            print(f"scoring {rung} in ONNX on {name}", flush=True)
            losses = scoring.runtime_losses(lambda ids, adapter=adapter: runtime.logits(ids, adapter), some)
            scores[name][rung] = scoring.score(losses)
    return scores


def check_tokenizer(runtime, example: Example) -> None:
    """Make sure that the runtime's tokenizer reads a prompt as the one that the adapter was trained with."""
    expected = example["input_ids"][: example["prompt_tokens"]]
    if runtime.encode(example["prompt"]) != expected:
        raise RuntimeError(f"onnxruntime-genai tokenizes {example['prompt']!r} otherwise than transformers")


def answer(runtime, name: str, some: list[Example], max_new_tokens: int) -> tuple[list[dict], dict]:
    """Let the bare model and the adapter answer samples and, under a response schema, the held-out prompts.

    :return: the answers side by side, and the shares that ended by themselves, that loop and that satisfy the schema
    """
    adapter = files.read_json(PREPARED / name / "adapter.json")
    schema = adapter["response_schema"]
    prompts = adapter["samples"] + ([example["prompt"] for example in some] if schema else [])
    print(f"answering {len(prompts)} prompts of {name}", flush=True)
    table = []
    shares = {share: {"bare": 0, "adapter": 0} for share in ("ended", "looping")}
    if schema:
        shares["valid"] = {"bare": 0, "adapter": 0}
    for index, prompt in enumerate(prompts):
        row = {"prompt": prompt}
        for rung, active in (("bare", None), ("adapter", name)):
            row[rung], ended = runtime.answer(prompt, active, max_new_tokens)
            shares["ended"][rung] += ended / len(prompts)
            shares["looping"][rung] += answers.loops(row[rung]) / len(prompts)
            if schema and index >= len(adapter["samples"]):
                shares["valid"][rung] += (answers.complaint(row[rung], schema) is None) / len(some)
        table.append(row)
    return table, {share: {rung: round(value, 6) for rung, value in of.items()} for share, of in shares.items()}


def evaluate(target: str, params: settings.Settings, folder: Path) -> dict:
    """Write answers.json into `folder` and return the metrics."""
    import onnxruntime as ort

    tasks.rehearse(params.evaluate.tasks)
    names = list(params.adapters)
    heldout = {name: examples.read(PREPARED / name / "heldout.jsonl") for name in names}
    captured, converted = CAPTURED / target, CONVERTED / target
    with device.explained(KNOBS):
        pytorch = score_pytorch(heldout, device.resolve(params.device))
    metrics: dict = {name: {"pytorch": scores} for name, scores in pytorch.items()}
    table = {}
    provider = params.target(target).provider
    if provider in ort.get_available_providers():
        from press.runtime import Runtime

        paths = {name: converted / name / "adapter.onnx_adapter" for name in names}
        runtime = Runtime(captured, paths, params.threads)
        for name, scores in score_runtime(runtime, heldout).items():
            metrics[name]["onnx"] = scores
            table[name], shares = answer(runtime, name, heldout[name], params.evaluate.max_new_tokens)
            metrics[name] |= shares
        metrics |= tasks.run(runtime, params.evaluate.tasks, names)
    else:
        print(f"note: {provider} is not on this machine; the ONNX model was not evaluated")
    metrics["bytes"] = {
        "base": files.size(BASE),
        "quantized": files.size(QUANTIZED),
        "captured": files.size(captured),
        "adapters": {name: files.size(converted / name) for name in names},
    }
    files.write_json(folder / "answers.json", table)
    return metrics


def main(target: str) -> None:
    import torch

    params = settings.load()
    torch.set_num_threads(params.threads)
    with files.replaced(REPORTS / target) as building:
        files.write_json(building / "metrics.json", evaluate(target, params, building))
    machine.record(f"evaluate/{target}")
    print(f"{REPORTS / target}: see `dvc metrics show`")


if __name__ == "__main__":
    command.run(main)
