"""Say what the presets' models need, by measurement on random weights of their exact shape.

    python -m bench.preset_needs [NAME:LAYERS[:ROWS] ...]    such as llama-3.2-1b:2; without any, only what follows
    python -m bench.preset_needs --whole NAME ... [--into FILE] [--seconds N]
    python -m bench.preset_needs --from FILE ...

Whole models are measured on the device that there is, such as a GPU: quantize (AWQ), finetune, capture and convert as
the preset has them, each in a process of its own, by the stage's own function. What each model took is a line of JSON,
added to FILE as soon as it is done; a model that fails is said and left out, and none begins that would end behind N
seconds if it took as long as the longest. Lines from another machine are taken in by --from. They are kept in
bench/preset_whole.json.

Without a GPU that takes hours: each word NAME:LAYERS is a point, a model of that preset's shape with so few layers, on
which quantize (AWQ, on ROWS rows), three steps of finetune and capture run on the CPU. On 0 rows, it is rounded in
place of AWQ, which takes most of the time, and tells of finetune and capture alone. They are kept in
bench/preset_points.json. From all of them follow the needs of each whole model on a CPU, extrapolated by a
least-squares fit (no factor below zero, errors relative)

- of peak memory, beside the weights (in bf16 for quantize, in fp32 for finetune), to the parameters in the embedding;
  of quantize's also to those of one layer, of which it holds copies in fp32, of finetune's to a batch's logits and to
  what the linears read and write, which gradient checkpoints leave to one layer, and of capture's to those in all
  layers;
- of outputs to the parameters in the layers and in the embedding;
- of processor seconds to the same; quantize's to the calibration rows times the layers' parameters, and to the rows
  times the squared width of each linear, which the rounding takes, and which no calibration row adds to.

It says how far each fit is off, and by how much it would miss each point by the others alone, and what it would have
said of each model that was measured whole. Seconds are those of the processors, so that a machine that does other
things, too, gives nearly the same. Examples are as long as they may be at most (256 tokens), so that training is rather
over- than underrated. Where a model was not measured whole, the memory of a GPU is that of bf16 weights, 1.5 GB and
three copies of a batch's logits in fp32, which for the shape of Phi-3.5-mini comes to the 9.9 GB that an H100 measured
(docs/benchmarks.md).

presets/needs.json, which `make repro PRESET=NAME` compares with the machine, and the table of docs/models.md are
written from all that was measured. The fit takes scipy, which comes with `make install-tasks`.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from bench import preset_models, preset_shapes, stages
from bench.preset_models import STEPS, TOKENS, VALIDATED
from bench.stages import ADAPTER, ROOT
from press.core import arithmetic, environment, files
from press.params import reading

POINTS, WHOLE = ROOT / "bench/preset_points.json", ROOT / "bench/preset_whole.json"
NEEDS, PAGE = ROOT / "presets/needs.json", ROOT / "docs/models.md"
ROWS = 4
# What is beside the weights and logits in a GPU's memory, and copies of the logits.
BESIDE, COPIES = 1.5e9, 3
# Bytes of each weight that a stage holds: in bf16, as the base is read, and in fp32, as a CPU trains.
WEIGHT = {"quantize": 2, "finetune": 4}
# What is fitted: a stage's, and of it the peak memory, the size of its output or processor seconds.
FITTED = [
    *((stage, key) for stage in ("quantize", "finetune", "capture") for key in ("memory", "seconds")),
    ("quantize", "output"),
    ("capture", "output"),
    ("finetune", "step"),
]


def shape(name: str, layers: int | None = None) -> dict[str, float]:
    """Return a model's parameters, in its layers, in the largest one and in its embedding; and its other sizes.

    Those of a training are as the preset has it: with gradient checkpoints, a pass computes its layers once more, and
    keeps what one of them needs.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**preset_shapes.config(name, layers)))
    whole, table = _parameters(model), model.get_input_embeddings().weight
    linears = [each for each in model.model.modules() if isinstance(each, torch.nn.Linear)]
    widths = sum(each.out_features + each.in_features for each in linears)
    changes = reading.values((), ROOT / f"presets/{name}.yaml")
    checkpoints = changes["every_adapter"]["training"].get("gradient_checkpointing", False)
    return {
        "layers": whole - table.numel(),
        "computed": (whole - table.numel()) * (4 / 3 if checkpoints else 1),
        "layer": max(map(_parameters, model.model.layers)),
        "table": table.numel(),
        "vocabulary": len(table),
        "kept": widths / len(model.model.layers) if checkpoints else widths,
        "rounding": sum(each.out_features * each.in_features**2 for each in linears),
    }


def _parameters(module: Any) -> int:
    return sum(each.numel() for each in module.parameters())


def features(stage: str, key: str, of: dict[str, float], rows: int) -> list[float]:
    """Return what a stage's memory, output or time is a sum of, each in units of about one."""
    layers, table = of["layers"] / 1e8, of["table"] / 1e8
    if key == "output":
        return [layers, table]
    if (stage, key) == ("quantize", "seconds"):
        return [1, table, rows * layers, of["rounding"] / 1e12]
    if (stage, key) == ("quantize", "memory"):
        return [1, table, of["layer"] / 1e8]
    if (stage, key) == ("finetune", "memory"):
        return [1, table, of["vocabulary"] / 1e5, of["kept"] / 1e6]
    if stage == "finetune":
        return [1, of["computed"] / 1e8, table]
    return [1, layers, table]


def held(stage: str, key: str, of: dict[str, float]) -> float:
    """Return the part of a stage's memory that needs no fit: the weights'."""
    return WEIGHT.get(stage, 0) * (of["layers"] + of["table"]) if key == "memory" else 0.0


def fitted(points: list[dict], stage: str, key: str) -> np.ndarray:
    """Return the factors of a stage's features, fitted to the points; say how far off they are."""
    points = [each for each in points if each["rows"] or stage != "quantize"]
    shapes = [shape(each["name"], each["layers"]) for each in points]
    values = np.array([point[stage][key] for point in points])
    table = np.array([features(stage, key, of, each["rows"]) for of, each in zip(shapes, points, strict=True)])
    relative = table / values[:, None]
    wanted = 1 - np.array([held(stage, key, of) for of in shapes]) / values
    factors, _ = nnls(relative, wanted)
    off = np.abs(relative @ factors - wanted)
    missed = np.array(
        [
            relative[index] @ nnls(np.delete(relative, index, axis=0), np.delete(wanted, index))[0] - wanted[index]
            for index in range(len(points))
        ]
    )
    worst = points[np.abs(missed).argmax()]
    print(
        f"{stage}.{key}: off by {off.mean():.0%} in the mean, {off.max():.0%} at most; by the others alone "
        f"{np.abs(missed).mean():.0%}, and {worst['name']}:{worst['layers']} by {missed[np.abs(missed).argmax()]:+.0%}",
        flush=True,
    )
    return factors


def needs(name: str, factors: dict[tuple[str, str], np.ndarray], taken: dict[str, dict] | None) -> dict:
    """Return what a preset needs, in bytes, minutes of one processor core and seconds with a GPU.

    :param taken: by each stage on the whole model with a GPU, if it was measured
    """
    params, of = preset_models.parameters(name), shape(name)
    rows, adapters = params.quantize.calibration.rows, len(params.adapters)

    def reckoned(stage: str, key: str) -> float:
        return held(stage, key, of) + float(factors[stage, key] @ features(stage, key, of, rows))

    seconds = {stage: reckoned(stage, "seconds") for stage in ("quantize", "finetune", "capture")}
    training_steps = sum(adapter.training.max_steps - STEPS for adapter in params.adapters.values())
    seconds["finetune"] = adapters * seconds["finetune"] + training_steps * reckoned("finetune", "step")
    training = params.adapter(ADAPTER).training
    logits = 4 * training.batch_size * TOKENS * preset_shapes.SHAPES[name]["vocab_size"]
    base = 2 * (of["layers"] + of["table"])
    sizes = {stage: reckoned(stage, "memory") for stage in ("quantize", "finetune", "capture")}
    # With a GPU, it has what training takes.
    sizes |= {"beside_gpu": max(sizes["quantize"], sizes["capture"]), "gpu": base + BESIDE + COPIES * logits}
    sizes |= {"base": base, "quantized": reckoned("quantize", "output"), "graph": reckoned("capture", "output")}
    if taken:
        found = measured(taken, adapters)
        off = (f"{key} {sizes[key] / 1e9:.1f} (measured {found[key] / 1e9:.1f})" for key in found if key in sizes)
        print(f"{name}: reckoned, in GB: {', '.join(off)}", flush=True)
        sizes |= found
    return {
        "parameters": int(of["layers"] + of["table"]),
        "memory": {
            "cpu": _rounded(max(sizes[stage] for stage in ("quantize", "finetune", "capture"))),
            "gpu": _rounded(sizes["beside_gpu"]),
        },
        "disk": _rounded(disk(sizes)),
        "gpu_memory": _rounded(sizes["gpu"]),
        "core_minutes": {stage: round(value / 60) for stage, value in seconds.items()},
        **({"gpu_seconds": gpu_seconds(taken, adapters)} if taken else {}),
    }


def measured(taken: dict[str, dict], adapters: int) -> dict[str, float]:
    """Return the sizes that were measured with a GPU: capture, too, runs without one."""
    return {
        "capture": taken["capture"]["host"],
        "beside_gpu": max(taken[stage]["host"] for stage in stages.OUTPUTS),
        "gpu": max(taken[stage]["gpu"] + taken[stage]["beside"] for stage in stages.OUTPUTS),
        "base": taken["inputs"]["output"],
        "quantized": taken["quantize"]["output"],
        "graph": taken["capture"]["output"],
        "adapters": adapters * (taken["finetune"]["output"] + 2 * taken["convert"]["output"]),
    }


def disk(sizes: dict[str, float]) -> float:
    """Return the bytes of all outputs in workspace and DVC's cache, the graph's twice; and one that is being built."""
    graphs = 2 * sizes["graph"]
    return 2 * (sizes["base"] + sizes["quantized"] + graphs + sizes.get("adapters", 0)) + max(sizes["base"], graphs)


def gpu_seconds(taken: dict[str, dict], adapters: int) -> dict[str, int]:
    """Return the seconds of all runs of each stage with a GPU."""
    runs = {"quantize": 1, "finetune": adapters, "capture": 1, "convert": adapters}
    return {stage: round(count * taken[stage]["seconds"]) for stage, count in runs.items()}


def _rounded(size: float) -> int:
    return round(size / 1e8) * 10**8


def merged(known: list[dict], new: list[dict], *keys: str) -> list[dict]:
    """Return what is known with what is new in place of what had the same keys."""
    latest = {tuple(each[key] for key in keys): each for each in [*known, *new]}
    return list(latest.values())


def write_needs(points: list[dict], models: list[dict]) -> None:
    """Write the needs that follow from what was measured, and the page's table."""
    factors = {each: fitted(points, *each) for each in FITTED}
    taken = {each["name"]: each for each in models if each["layers"] is None and each["device"] != "cpu"}
    with stages.project():
        found = {name: needs(name, factors, taken.get(name)) for name in preset_shapes.SHAPES}
    files.write_json(NEEDS, {"last_validated_with": preset_models.versions(*VALIDATED), "presets": found})
    page = PAGE.read_text(encoding="utf-8")
    for name, needed in found.items():
        page = re.sub(rf"^(\| `{re.escape(name)}` (?:\|[^|\n]*){{2}}\|).*$", rf"\1{cells(needed)}", page, flags=re.M)
    PAGE.write_text(page, encoding="utf-8")


def cells(needed: dict) -> str:
    """Return the end of a preset's row: memory, disk and GPU in GB, hours of a core, minutes with a GPU."""
    sizes = (needed["memory"]["cpu"], needed["disk"], needed["gpu_memory"])
    hours = sum(needed["core_minutes"].values()) / 60
    minutes = f"{sum(needed['gpu_seconds'].values()) / 60:.1f}" if "gpu_seconds" in needed else "–"
    return "".join(f" {cell} |" for cell in (*(f"{size / 1e9:.0f}" for size in sizes), f"{hours:.1f}", minutes))


def main() -> int:
    """Measure models, and write the needs that follow from all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", nargs="*", metavar="NAME:LAYERS[:ROWS]", help="to measure on the CPU")
    parser.add_argument("--whole", nargs="+", default=[], metavar="NAME", help="to measure whole; NAME:LAYERS tries it")
    parser.add_argument("--into", type=Path, help="a file of lines for them; nothing else is written")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="that measuring them may take")
    parser.add_argument("--from", nargs="+", default=[], type=Path, dest="sources", metavar="FILE", help="to take in")
    words = parser.parse_args()
    points: list[dict] = list(files.read_json(POINTS))
    for word in words.points:
        name, layers, rows = [*word.split(":"), str(ROWS)][:3]
        points = merged(points, [preset_models.point(name, int(layers), int(rows))], "name", "layers", "rows")
        files.write_json(POINTS, points)
    with tempfile.TemporaryDirectory() as scratch:
        into = words.into or Path(scratch) / "whole.jsonl"
        complete = preset_models.measure_all(words.whole, into, words.seconds)
        sources = words.sources if words.into else [*words.sources, *Path(scratch).iterdir()]
        lines = [json.loads(line) for each in sources for line in each.read_text(encoding="utf-8").splitlines()]
    if not words.into:
        known: list[dict] = list(files.read_json(WHOLE)) if WHOLE.exists() else []
        models = merged(known, lines, "name", "layers", "device")
        if lines:
            files.write_json(WHOLE, models)
        write_needs(points, models)
    return 0 if complete else 1


if __name__ == "__main__":
    # Portable arithmetic, as stages have it, is of variables that libraries read when they load.
    wanted, _ = arithmetic.variables(os.environ | environment.STAGE)
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)
    sys.exit(main())
