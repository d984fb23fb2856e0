"""Score each rung of the quality ladder, in PyTorch and in the captured model's runtime."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from press.core import memory, paths
from press.data.examples import Example
from press.model import checkpoints, head_tables
from press.params.schema import Evaluate
from press.quality import generation, heldout, scoring
from press.quality.ladder import GENERAL, Ladder

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from press.model.runtime import Runtime


def in_pytorch(steps: Ladder, graph: Path, where: str, params: Evaluate, alone: bool, trust: bool = False) -> None:
    """Score the base, the quantized base, each adapter on it, and it with the graph's embedding and lm_head.

    What ONNX tells as well is scored on all texts only if it is asked for. All but the last may answer the held-out
    prompts of those adapters that have a response schema. One model is in memory at a time.

    :param where: cpu or cuda
    :param alone: whether ONNX cannot tell anything
    :param trust: whether the base's own Python code may run
    """
    from peft import PeftModel

    tokenizer = checkpoints.tokenizer(paths.BASE, trust)
    ends = checkpoints.eos_ids(paths.BASE)
    abouts = {name: heldout.about(name) for name in heldout.adapters(steps.texts)}

    def add(model: "PreTrainedModel | PeftModel", rung: str, name: str, text: str) -> None:
        print(f"scoring {rung} in PyTorch on {text}", flush=True)
        steps.add(f"{name}.pytorch.{rung}", text, scoring.torch_logits(model, steps.texts[text], tokens))
        pairs = steps.rejected(text)
        if pairs and rung in ("quantized", "adapter"):
            steps.add_rejected(f"{name}.pytorch.{rung}", scoring.torch_logits(model, pairs, tokens))

    def judge(model: "PreTrainedModel | PeftModel", rung: str, text: str) -> None:
        about = abouts.get(text)
        if params.pytorch_answers and about and about["response_schema"]:
            examples = steps.texts[text]
            print(f"answering {len(examples)} prompts of {text} in PyTorch by {rung}", flush=True)
            given = generation.answers(model, tokenizer, examples, about["generation"], ends)
            steps.judge(f"{text}.pytorch.{rung}", dict(enumerate(given)), about)

    base = checkpoints.load(paths.BASE, where, trust)
    vocabulary = base.config.get_text_config().vocab_size
    steps.check_disk(vocabulary)
    tokens = params.logits_mb * 10**6 // (scoring.FLOAT * vocabulary)
    for text in steps.texts:
        add(base, "base", text, text)
        judge(base, "base", text)
    del base
    memory.give_back()
    quantized = checkpoints.dequantize(checkpoints.load(paths.QUANTIZED, where, trust))
    for text in steps.texts:
        add(quantized, "quantized", text, text)
        judge(quantized, "quantized", text)
    for name in heldout.adapters(steps.texts):
        adapted = PeftModel.from_pretrained(quantized, paths.ADAPTERS / name).eval()
        add(adapted, "adapter", name, name)
        judge(adapted, "adapter", name)
        if params.pytorch_forgetting or alone:
            add(adapted, "adapter", f"{name}.{GENERAL}", GENERAL)
        quantized = adapted.unload()
    try:
        head_tables.put(quantized, head_tables.read(graph))
    except head_tables.UnreadableError as error:
        print(f"note: {error}; what embedding and lm_head cost was not evaluated")
        return
    for text in steps.texts if params.pytorch_head or alone else (GENERAL,):
        add(quantized, "head", text, text)


def in_runtime(steps: Ladder, runtime: "Runtime") -> None:
    """Score the captured model, bare and with its adapter, on each adapter's held-out examples and general text."""

    def add(rung: str, name: str, text: str, adapter: str | None) -> None:
        print(f"scoring {rung} in ONNX on {text}", flush=True)

        def logits(examples: list[Example]) -> Iterator[np.ndarray]:
            return scoring.runtime_logits(lambda ids: runtime.logits(ids, adapter), examples)

        steps.add(f"{name}.onnx.{rung}", text, logits(steps.texts[text]))
        if pairs := steps.rejected(text):
            steps.add_rejected(f"{name}.onnx.{rung}", logits(pairs))

    add("bare", GENERAL, GENERAL, None)
    for name in heldout.adapters(steps.texts):
        add("bare", name, name, None)
        add("adapter", name, name, name)
        add("adapter", f"{name}.{GENERAL}", GENERAL, name)
