"""The front matter of a model card: what the Hugging Face hub reads of it.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

import math
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from press.package import origin
from press.params import settings
from press.quality import vocabulary
from press.quality.vocabulary import FIGURES, GENERAL, PAIRED

TASK = "text-generation"
# The loader of the library `datasets` that reads the texts: they are files of the project, not data sets of the hub.
LOADER = "json"


def build(params: settings.Settings, metrics: dict, base: Path) -> ModelCardData:
    """Return the front matter.

    :param metrics: of the package
    :param base: the folder of the base model
    """
    known = origin.known(params.base, base)
    if "base_model" in known:
        known["base_model_relation"] = "quantized"
    results = list(_results(params, metrics))
    return ModelCardData(
        **known,
        library_name="onnxruntime-genai",
        pipeline_tag=TASK,
        tags=["onnx", f"int{params.quantize.bits}", "lora"],
        model_name=params.package.name if results else None,
        eval_results=results or None,
    )


def _results(params: settings.Settings, metrics: dict) -> Iterator[EvalResult]:
    """Yield the figures of what is shipped: the ONNX model on each text, bare and with its adapters."""
    texts = {name: (f"{name}, held-out answers", adapter.data) for name, adapter in params.adapters.items()}
    texts[GENERAL] = ("general text", params.evaluate.general.data)
    for text, (title, path) in texts.items():
        for rung, label, score in vocabulary.ladder(metrics, text, params.adapters):
            if rung.engine != "onnx":
                continue
            for figure, term in (FIGURES | PAIRED).items():
                # YAML's infinity is no value to the hub.
                if math.isfinite(score.get(figure, math.nan)):
                    yield EvalResult(
                        task_type=TASK,
                        dataset_type=LOADER,
                        dataset_name=title,
                        dataset_config=text,
                        dataset_args={"data_files": path},
                        metric_type=figure,
                        metric_name=f"{term.label} ({label})",
                        metric_value=score[figure],
                    )
