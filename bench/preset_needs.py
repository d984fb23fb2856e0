"""Measure what the presets' models need, on random weights of their exact width and vocabulary.

    python -m bench.preset_needs [NAME:LAYERS[:ROWS] ...]    such as llama-3.2-1b:2; without any, only what follows

Each word is a point: a model of that preset's shape with so few layers, on which quantize (AWQ, on ROWS rows), finetune
and capture run on the CPU, each in a process of its own, by the stage's own function. On 0 rows, it is rounded in place
of AWQ, which takes most of the time, and tells of finetune and capture alone. The points are kept in
bench/preset_points.json. From all of them, presets/needs.json is written, which `make repro PRESET=NAME` compares with
the machine: the needs of each whole model, extrapolated by a least-squares fit (no factor below zero, errors relative)

- of peak memory, beside the weights (in bf16 for quantize, in fp32 for finetune), to the parameters in the embedding;
  of quantize's also to those of one layer, of which it holds copies in fp32, of finetune's to a batch's logits and to
  what the linears read and write, which gradient checkpoints leave to one layer, and of capture's to those in all
  layers;
- of outputs to the parameters in the layers and in the embedding;
- of processor seconds to the same; quantize's to the calibration rows times the layers' parameters, and to the rows
  times the squared width of each linear, which the rounding takes, and which no calibration row adds to.

It says how far each fit is off, and by how much it would miss each point by the others alone. Seconds are those of the
processors, so that a machine that does other things, too, gives nearly the same. Examples are as long as they may be at
most (256 tokens), so that training is rather over- than underrated. The memory of a GPU is not measured: it is that of
bf16 weights, 1.5 GB and three copies of a batch's logits in fp32, which for the shape of Phi-3.5-mini comes to the
9.9 GB that an H100 measured (docs/benchmarks.md).

The fit takes scipy, which comes with `make install-tasks`.
"""

import argparse
import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from bench import preset_shapes
from bench.memory import peak_bytes
from press.core import arithmetic, environment, files, paths
from press.params import preset, reading, settings

ROOT = Path(__file__).parents[1]
POINTS, NEEDS = ROOT / "bench/preset_points.json", ROOT / "presets/needs.json"
ADAPTER, TARGET = "travel", "cpu"
ROWS, STEPS, TOKENS = 4, 3, 256
CAPTURED, MEASURED = Path("captured"), Path("measured.json")
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
VALIDATED = ("torch", "transformers", "olive-ai", "onnxruntime-genai")


def parameters(name: str) -> settings.Settings:
    """Return params.yaml with a preset."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    laid = preset.edited(text, reading.values((), ROOT / f"presets/{name}.yaml"))
    Path("params.yaml").write_text(laid, encoding="utf-8")
    return settings.load(Path("params.yaml"))


def trained(name: str) -> Any:
    """Return the adapter of a few steps and examples, in a template that the byte-level tokenizer can have."""
    adapter = parameters(name).adapter(ADAPTER)
    changes = {
        "template": settings.load(ROOT / "params.yaml").adapter(ADAPTER).template,
        "max_seq_len": TOKENS,
        "too_long": "truncate",
        "heldout_examples": 2,
        "training": adapter.training.model_copy(update={"max_steps": STEPS, "checkpoint_every": STEPS}),
    }
    return adapter.model_copy(update=changes)


def inputs(name: str, layers: int) -> dict:
    """Make the base model and the prepared examples."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from press.data import jsonl
    from press.model import checkpoints
    from press.sources import tokenizers
    from press.training import preparation

    tokenizer = tokenizers.of_bytes()
    ids = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.set_default_dtype(torch.bfloat16)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**preset_shapes.config(name, layers), **ids))
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(paths.BASE)
    tokenizers.save(tokenizer, paths.BASE)
    adapter = trained(name)
    folder = paths.PREPARED / ADAPTER
    folder.mkdir(parents=True)
    with jsonl.writing(folder / "train.jsonl") as train, jsonl.writing(folder / "heldout.jsonl") as heldout:
        preparation.prepare(adapter, tokenizer, checkpoints.eos_ids(paths.BASE), preparation.Prepared(train, heldout))
    files.write_json(folder / "adapter.json", {"template": adapter.template, "response_schema": None, "generation": {}})
    return {}


def quantize(name: str, rows: int) -> dict:
    """Quantize the base model by AWQ on so many calibration rows; on none, round it."""
    from press.model import quantization

    params = parameters(name)
    calibration = params.quantize.calibration.model_copy(update={"rows": rows})
    changes = {"calibration": calibration} if rows else {"algorithm": "rtn"}
    chosen = params.quantize.model_copy(update=changes)
    return _built(paths.QUANTIZED, lambda building: quantization.quantize(chosen, paths.BASE, building, params.seed))


def finetune(name: str) -> dict:
    """Train an adapter for a few steps; return the processor time of one of them."""
    import transformers

    from press.training import finetuning

    starts = []
    of_transformers: Any = transformers.Trainer
    step = of_transformers.training_step

    def noted(*arguments: Any, **options: Any) -> Any:
        starts.append(time.process_time())
        return step(*arguments, **options)

    of_transformers.training_step = noted

    def train(building: Path) -> Path:
        resumed = building / "checkpoints"
        return finetuning.finetune(ADAPTER, trained(name), 42, paths.QUANTIZED, building, resumed)

    built = _built(paths.ADAPTERS / ADAPTER, train)
    return built | {"step": statistics.median(later - start for start, later in itertools.pairwise(starts))}


def capture(name: str) -> dict:
    """Capture the quantized model for the CPU."""
    from press.model import graphs, olive_run

    target = parameters(name).target(TARGET)
    return _built(CAPTURED, lambda building: graphs.build(olive_run.hf_model(paths.QUANTIZED), target, building))


def _built(output: Path, build: Callable[[Path], Path]) -> dict:
    with files.building(output) as building:
        files.publish(build(building), output)
    return {"output": files.size(output)}


def measured(name: str, layers: int, rows: int) -> dict[str, Any]:
    """Return what the stages take on a model of so many layers."""
    found: dict[str, Any] = {"name": name, "layers": layers, "rows": rows}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        Path("passes").symlink_to(ROOT / "passes")
        # A parameter may name no data outside of the project.
        shutil.copytree(ROOT / "data", "data")
        for stage, *numbers in (("inputs", layers), ("quantize", rows), ("finetune",), ("capture",)):
            call = [sys.executable, "-m", "bench.preset_needs", "--step", stage, name, *map(str, numbers)]
            subprocess.run(call, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
            found[stage] = files.read_json(MEASURED)
        os.chdir(ROOT)
    del found["inputs"]
    return found


def take(step: str, name: str, *numbers: str) -> None:
    """Run one step in this process, and write down what it takes."""
    arithmetic.begin(arithmetic.PORTABLE, 2)
    found = globals()[step](name, *map(int, numbers))
    used = resource.getrusage(resource.RUSAGE_SELF)
    files.write_json(MEASURED, found | {"seconds": used.ru_utime + used.ru_stime, "memory": peak_bytes()})


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


def needs(name: str, factors: dict[tuple[str, str], np.ndarray]) -> dict:
    """Return what a preset needs, in bytes and minutes of one processor core."""
    params, of = parameters(name), shape(name)
    rows = params.quantize.calibration.rows

    def whole(stage: str, key: str) -> float:
        return held(stage, key, of) + float(factors[stage, key] @ features(stage, key, of, rows))

    memory = {stage: whole(stage, "memory") for stage in ("quantize", "finetune", "capture")}
    steps = sum(adapter.training.max_steps - STEPS for adapter in params.adapters.values())
    seconds = {stage: whole(stage, "seconds") for stage in ("quantize", "finetune", "capture")}
    seconds["finetune"] = len(params.adapters) * seconds["finetune"] + steps * whole("finetune", "step")
    base = 2 * (of["layers"] + of["table"])
    quantized, captured = whole("quantize", "output"), whole("capture", "output")
    training = params.adapter(ADAPTER).training
    logits = 4 * training.batch_size * TOKENS * preset_shapes.SHAPES[name]["vocab_size"]
    return {
        "parameters": int(of["layers"] + of["table"]),
        # With a GPU, it has what training takes.
        "memory": {
            "cpu": _rounded(max(memory.values())),
            "gpu": _rounded(max(memory["quantize"], memory["capture"])),
        },
        # All outputs lie in the workspace and in DVC's cache, the graph twice; one more of the largest is built.
        "disk": _rounded(2 * (base + quantized + 2 * captured) + max(base, 2 * captured)),
        "gpu_memory": _rounded(base + BESIDE + COPIES * logits),
        "core_minutes": {stage: round(value / 60) for stage, value in seconds.items()},
    }


def _rounded(size: float) -> int:
    return round(size / 1e8) * 10**8


def main() -> None:
    """Measure points, and write the needs that follow from all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", nargs="*", metavar="NAME:LAYERS[:ROWS]", help="to measure")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.step:
        take(*words.step)
        return
    points: list[dict] = list(files.read_json(POINTS)) if POINTS.exists() else []
    for word in words.points:
        name, layers, rows = [*word.split(":"), str(ROWS)][:3]
        point = measured(name, int(layers), int(rows))
        points = [each for each in points if any(each[key] != point[key] for key in ("name", "layers", "rows"))]
        points.append(point)
        files.write_json(POINTS, points)
    factors = {each: fitted(points, *each) for each in FITTED}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        shutil.copytree(ROOT / "data", "data")
        found = {name: needs(name, factors) for name in preset_shapes.SHAPES}
        os.chdir(ROOT)
    versions = {package: metadata.version(package).partition("+")[0] for package in VALIDATED}
    files.write_json(NEEDS, {"last_validated_with": versions, "presets": found})


if __name__ == "__main__":
    # Portable arithmetic, as stages have it, is of variables that libraries read when they load.
    wanted, _ = arithmetic.variables(os.environ | environment.STAGE)
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)
    main()
