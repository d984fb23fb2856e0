"""Measure what the pipeline's stages take on the presets' models, of random weights; `bench.preset_needs` asks for it.

Each step runs in a process of its own: python -m bench.preset_models STEP NAME DEVICE LAYERS ROWS, each as JSON.
"""

import json
import subprocess
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import preset_shapes, shapes, stages
from bench.stages import ADAPTER, ROOT
from press.core import arithmetic, files, paths
from press.model import device
from press.params import preset, reading, settings

STEPS, TOKENS = 3, 256
VALIDATED = ("torch", "transformers", "olive-ai", "onnxruntime-genai")


def parameters(name: str) -> settings.Settings:
    """Return params.yaml with a preset."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    laid = preset.edited(text, reading.values((), ROOT / f"presets/{name}.yaml"))
    Path("params.yaml").write_text(laid, encoding="utf-8")
    return settings.load(Path("params.yaml"))


def measurable(name: str, rows: int | None) -> settings.Settings:
    """Return a preset's parameters with what the byte-level tokenizer asks for.

    :param rows: None, or calibration rows of a point, which trains for a few steps; of 0 rows, it is rounded
    """
    params = parameters(name)
    adapter, quantize = params.adapter(ADAPTER), params.quantize
    changes: dict[str, Any] = {
        "template": settings.load(ROOT / "params.yaml").adapter(ADAPTER).template,
        "max_seq_len": TOKENS,
        "too_long": "truncate",
    }
    if rows is not None:
        changes["heldout_examples"] = 2
        changes["training"] = adapter.training.model_copy(update={"max_steps": STEPS, "checkpoint_every": STEPS})
        calibration = quantize.calibration.model_copy(update={"rows": rows})
        quantize = quantize.model_copy(update={"calibration": calibration} if rows else {"algorithm": "rtn"})
    return params.model_copy(update={"quantize": quantize, "adapters": {ADAPTER: adapter.model_copy(update=changes)}})


def inputs(name: str, layers: int | None, params: settings.Settings, where: device.Device) -> dict[str, Any]:
    """Make the base model and the prepared examples; return the model's bytes, and where it was made."""
    import torch

    from press.sources import tokenizers

    tokenizer = tokenizers.of_bytes()
    ids = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    shapes.make(paths.BASE, preset_shapes.config(name, layers) | ids, where)
    tokenizers.save(tokenizer, paths.BASE)
    stages.prepare(params.adapter(ADAPTER), tokenizer)
    return {"output": files.size(paths.BASE), "device": torch.cuda.get_device_name() if where == "cuda" else where}


def take(step: str, name: str, where: device.Device, layers: int | None, rows: int | None) -> None:
    """Run one step in this process, and write down what it found."""
    device.confine(where)
    params = measurable(name, rows)
    # Other libraries than the locked ones, as a GPU's machine may have, are not held to portable floats.
    arithmetic.begin(arithmetic.PORTABLE if where == "cpu" else arithmetic.NATIVE, params.threads)
    if step == "inputs":
        files.write_json(stages.FOUND, inputs(name, layers, params, where))
    else:
        files.write_json(stages.FOUND, stages.measure(step, params, where))


def steps(names: list[str], name: str, *about: Any) -> dict[str, dict]:
    """Run some stages on a new model; say and return what each found."""
    words, found = list(map(json.dumps, (name, *about))), {}
    with stages.project():
        for step in ["inputs", *names]:
            found[step] = stages.in_its_own_process("bench.preset_models", json.dumps(step), *words)
            print(f"{name}, {step}: {json.dumps(found[step])}", flush=True)
    return found


def point(name: str, layers: int, rows: int) -> dict[str, Any]:
    """Return what stages take of the processors and their memory on a model of so many layers."""
    found = steps(["quantize", "finetune", "capture"], name, "cpu", layers, rows)
    figures: dict[str, Any] = {"name": name, "layers": layers, "rows": rows}
    for stage in ("quantize", "finetune", "capture"):
        taken = found[stage]
        figures[stage] = {"output": taken["output"], "seconds": taken["processor"], "memory": taken["host"]}
    figures["finetune"]["step"] = found["finetune"]["training"]["processor"]
    return figures


def whole(name: str, layers: int | None) -> dict[str, Any]:
    """Return what all stages take on a whole model, or one of fewer layers, on the device that is here."""
    found = steps(list(stages.OUTPUTS), name, device.resolve("auto"), layers, None)
    return {
        "name": name,
        "layers": layers,
        "device": found["inputs"].pop("device"),
        "versions": versions(*VALIDATED, "onnxruntime", "peft"),
        **found,
    }


def measure_all(words: list[str], into: Path, seconds: float) -> bool:
    """Measure whole models one after another, and add a line for each to a file; return whether all were."""
    start, longest, complete = time.monotonic(), 0.0, True
    for word in words:
        begun = time.monotonic()
        if begun - start + longest > seconds:
            print(f"{word} and what follows it is left out: {begun - start:.0f} s have passed", flush=True)
            return False
        name, _, layers = word.partition(":")
        try:
            line = json.dumps(whole(name, int(layers) if layers else None))
        except (OSError, subprocess.CalledProcessError):
            traceback.print_exc()
            complete = False
            continue
        with into.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        longest = max(longest, time.monotonic() - begun)
        print(f"{longest:.0f} s: {line}", flush=True)
    return complete


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of installed packages."""
    return {package: metadata.version(package).partition("+")[0] for package in packages}


if __name__ == "__main__":
    take(*map(json.loads, sys.argv[1:]))
