"""Evaluate a target's model against PyTorch: the quality ladder, answers, benchmark tasks and sizes."""

import tempfile
from pathlib import Path

from press.core import files, memory, paths
from press.data import jsonl, tokens
from press.model import checkpoints, device
from press.params import objectives
from press.params.settings import Settings
from press.quality import answering, climbing, heldout, ladder, tasks
from press.quality.ladder import Ladder

# What lowers the memory that it needs.
KNOBS = "evaluate.logits_mb, adapters.*.max_seq_len or evaluate.general.row_tokens"
CPU = "CPUExecutionProvider"


def ask_runtime(steps: Ladder, target: str, params: Settings, start: list[int]) -> tuple[dict, dict, list[dict]]:
    """Score the captured model and let it answer.

    :param start: the token that the model's tokenizer puts before every text
    :return: what the metrics have besides the ladder, the answers of each adapter, and the figures of single prompts
    """
    from press.model.runtime import Runtime

    adapters = {name: paths.CONVERTED / target / name / paths.ADAPTER_FILE for name in params.adapters}
    # Batches are tried on processors alone.
    batch = params.evaluate.batch if params.target(target).provider == CPU else 1
    runtime = Runtime(paths.CAPTURED / target, adapters, params.threads, batch)
    climbing.in_runtime(steps, runtime)
    metrics, table, cases = {}, {}, []
    for name in params.adapters:
        table[name], own = answering.answer(steps, runtime, name, params.evaluate)
        metrics[name] = answering.figures(name, own)
        cases += own
    return metrics | tasks.run(runtime, params.evaluate.tasks, list(params.adapters), start), table, cases


def evaluate(target: str, params: Settings, folder: Path) -> dict:
    """Write ladder.csv, cases.jsonl and answers.json into `folder` and return the metrics."""
    import onnxruntime as ort

    tokenizer = checkpoints.tokenizer(paths.BASE, params.base.trust_remote_code)
    tasks.rehearse(params.evaluate.tasks, tokenizer)
    captured, provider = paths.CAPTURED / target, params.target(target).provider
    here = provider in ort.get_available_providers()
    with tempfile.TemporaryDirectory(dir=folder) as references:
        texts = heldout.read(params)
        heldout.check_tokens(captured, texts, params.base.trust_remote_code)
        steps = Ladder(texts, Path(references))
        with device.explained(KNOBS):
            where = device.resolve(params.device)
            trust, graph = params.base.trust_remote_code, captured / paths.GRAPH
            climbing.in_pytorch(steps, graph, where, params.evaluate, not here, trust)
        memory.give_back()
        asked, table, cases = {}, {}, []
        if here:
            asked, table, cases = ask_runtime(steps, target, params, tokens.start(tokenizer))
        else:
            print(f"note: {provider} is not on this machine; the ONNX model was not evaluated")
    for name, adapter in params.adapters.items():
        if objectives.learns_from_pairs(adapter.training):
            steps.prefer(name, adapter.training.beta)
    metrics = steps.metrics()
    metrics |= {name: metrics.get(name, {}) | figures for name, figures in asked.items()}
    metrics["bytes"] = {
        "base": files.size(paths.BASE),
        "quantized": files.size(paths.QUANTIZED),
        "captured": files.size(captured),
        "adapters": {name: files.size(paths.CONVERTED / target / name) for name in params.adapters},
    }
    ladder.write_table(folder / paths.LADDER, metrics, steps.texts)
    jsonl.write(folder / paths.CASES, steps.cases(heldout.inputs(steps.texts)) + cases)
    files.write_json(folder / paths.ANSWERS, table)
    return metrics
