"""Run the pipeline's stages on a random model of exactly Phi-3.5-mini's shape; time, memory and floor of each.

    python -m bench.phi_shape [--device cuda] [--layers 32] [--steps 100] [--batch-size 8] [--tokens 256] [--rows 32]
                              [--method qlora] [--checkpointing off] [--packing on] [--processes 2]
                              [--stages quantize,finetune] [--keep FOLDER]

3.8 billion parameters in bf16, with the published configuration (long rope included) and a byte-level tokenizer.
Each stage runs in a process of its own, as DVC runs it, by the stage's own function: quantize (AWQ, group size 128),
finetune (rank 16 on all projections, gradient checkpointing; with several processes, each on a GPU of its own, whose
memory is not measured), capture and convert (for the CPU). The floor of a stage is the longest of its arithmetic, its
traffic to the device's memory and its files, at the rates that the machine reaches in a plain product, copy and write,
which are measured first. It needs no network: on a machine that reaches no package registry, put the wheels of
requirements.lock into a folder on PYTHONPATH. What is kept is a package, as `python -m bench.runtime --package FOLDER`
wants it.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.memory import peak_bytes
from bench.shapes import LONG_ROPE, PHI_3_5_MINI, make_phi
from press.core import environment, files
from press.data import jsonl
from press.model import checkpoints, conversion, device, graphs, olive_run, quantization
from press.params import settings
from press.sources import tokenizers
from press.training import finetuning, preparation

ROOT = Path(__file__).parents[1]
ADAPTER, TARGET = "travel", "cpu"
GROUP_SIZE, RANK = 128, 16
MODULES = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
BASE, QUANTIZED = Path("models/base"), Path("models/quantized")
TRAINED, CAPTURED = Path("models/adapters") / ADAPTER, Path("models/captured") / TARGET
CONVERTED = Path("models/converted") / TARGET / ADAPTER
OWN = ("step", "keep")  # words that are not handed to a step
OUTPUTS = {"quantize": QUANTIZED, "finetune": TRAINED, "capture": CAPTURED, "convert": CONVERTED}


def parameters(words: argparse.Namespace) -> settings.Settings:
    """Return params.yaml with this bench's values."""
    params = settings.load(ROOT / "params.yaml")
    calibration = params.quantize.calibration.model_copy(update={"rows": words.rows})
    adapter = params.adapter(ADAPTER)
    training = {"max_steps": words.steps, "checkpoint_every": words.steps, "batch_size": words.batch_size}
    training |= {"processes": words.processes, "gradient_checkpointing": words.checkpointing == "on"}
    training |= {"packing": words.packing == "on"}
    changes = {
        "max_seq_len": words.tokens,
        "too_long": "truncate",
        "lora": adapter.lora.model_copy(update={"method": words.method, "rank": RANK, "target_modules": MODULES}),
        "training": adapter.training.model_copy(update=training),
    }
    return params.model_copy(
        update={
            "quantize": params.quantize.model_copy(update={"group_size": GROUP_SIZE, "calibration": calibration}),
            "adapters": {ADAPTER: adapter.model_copy(update=changes)},
        }
    )


def make_inputs(words: argparse.Namespace) -> None:
    """Make the base model and the prepared examples."""

    tokenizer = tokenizers.of_bytes()
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    make_phi(BASE, words.layers, words.device, **ids)
    # As the hub has it: what transformers writes names the rope otherwise.
    config = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "torch_dtype": "bfloat16"}
    config |= {"num_hidden_layers": words.layers, **PHI_3_5_MINI, **LONG_ROPE, **ids}
    files.write_json(BASE / "config.json", config)
    adapter = parameters(words).adapter(ADAPTER)
    folder = Path("prepared") / ADAPTER
    folder.mkdir(parents=True)
    with jsonl.writing(folder / "train.jsonl") as train, jsonl.writing(folder / "heldout.jsonl") as heldout:
        into = preparation.Prepared(train, heldout)
        preparation.prepare(adapter, tokenizer, checkpoints.eos_ids(BASE), into)
    about = {"template": adapter.template, "response_schema": None, "generation": {}}
    files.write_json(folder / "adapter.json", about)


def run_stage(name: str, words: argparse.Namespace, building: Path) -> Path:
    """Run one stage's function; return the folder of its result."""

    params = parameters(words)
    if name == "quantize":
        return quantization.quantize(params.quantize, BASE, building, params.seed)
    if name == "finetune":
        resumed = building / "checkpoints"
        adapter = params.adapter(ADAPTER)
        return finetuning.finetune(ADAPTER, adapter, params.seed, QUANTIZED, building, resumed, words.device)
    if name == "capture":
        with files.digesting(QUANTIZED) as digest:
            captured = graphs.build(olive_run.hf_model(QUANTIZED), params.target(TARGET), building)
            files.write_json(captured / "base.json", {"base_sha256": digest.result()})
            return captured
    return conversion.convert(TARGET, ADAPTER, params, building)


def measure(name: str, words: argparse.Namespace) -> dict:
    """Run one step in this process; return its seconds and its peaks of memory in bytes."""
    start = time.perf_counter()
    training: dict[str, float] = {}
    if name == "inputs":
        make_inputs(words)
    elif name == "rates":
        return rates(words.device)
    else:
        if name == "finetune" and words.processes == 1:
            watch_training(training)
        with files.building(OUTPUTS[name]) as building:
            files.publish(run_stage(name, words, building), OUTPUTS[name])
    return {
        "seconds": time.perf_counter() - start,
        "gpu": torch.cuda.max_memory_allocated() if words.device == "cuda" else 0,
        "host": peak_bytes(),
        "training": training,
    }


def watch_training(seconds: dict[str, float]) -> None:
    """Let the Trainer's training be timed: all of it, and the median of what lies between the starts of two passes."""
    import transformers

    of_transformers: Any = transformers.Trainer
    train, step = of_transformers.train, of_transformers.training_step
    starts: list[float] = []

    def timed(trainer: transformers.Trainer, **options: Any) -> Any:
        start = time.perf_counter()
        output = train(trainer, **options)
        between = [later - earlier for earlier, later in itertools.pairwise(starts)]
        seconds.update(all=time.perf_counter() - start, median=statistics.median(between))
        return output

    def noted(*arguments: Any, **options: Any) -> torch.Tensor:
        starts.append(time.perf_counter())
        return step(*arguments, **options)

    of_transformers.train, of_transformers.training_step = timed, noted


def rates(where: str) -> dict[str, float]:
    """Measure a matrix product (FLOP/s) in the type that the stages compute in, a copy and a write (bytes/s)."""
    size, dtype, count = (8192, torch.bfloat16, 2**31) if where == "cuda" else (2048, torch.float32, 2**28)
    left, right = torch.randn(2, size, size, dtype=dtype, device=where)
    source, target = torch.empty(2, count // 2, dtype=dtype, device=where)
    file = Path("rate")
    block = bytes(2**30)
    return {
        "flops": 2 * size**3 / fastest(lambda: left @ right, where),
        "memory": 2 * source.numel() * source.itemsize / fastest(lambda: target.copy_(source), where),
        "files": len(block) / fastest(lambda: file.write_bytes(block), where, 3),
    }


def fastest(function: Callable, where: str, times: int = 10) -> float:
    """Return the seconds of a function's fastest run."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        if where == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def floors(words: argparse.Namespace, rate: dict[str, float]) -> dict[str, float]:
    """Return the least seconds that each stage's arithmetic, memory traffic and files take, whichever takes longest."""
    hidden, inner = PHI_3_5_MINI["hidden_size"], PHI_3_5_MINI["intermediate_size"]
    layers = words.layers * (4 * hidden**2 + 3 * hidden * inner)
    head = PHI_3_5_MINI["vocab_size"] * hidden
    calibration = words.rows * parameters(words).quantize.calibration.row_tokens
    # Both triangles of the Gram matrix of what each of a layer's four groups of linears reads.
    gram = words.layers * (3 * hidden**2 + inner**2)
    train, heldout = (
        [len(example["input_ids"]) for example in jsonl.read(Path("prepared") / ADAPTER / f"{split}.jsonl")]
        for split in ("train", "heldout")
    )
    tokens = words.batch_size * words.steps * (words.tokens if words.packing == "on" else sum(train) / len(train))
    # The frozen weights work forward, forward again if there are checkpoints, and backward to the inputs; once more for
    # the held-out examples.
    step = (3 if words.checkpointing == "on" else 2) * layers + 2 * head
    passes = 2 * (tokens * step + sum(heldout) * (layers + head))
    width = 2 if words.device == "cuda" else 4
    written = {name: files.size(path) if path.exists() else 0 for name, path in OUTPUTS.items()}
    work = {
        "quantize": (2 * calibration * (layers + gram), 2 * layers, written["quantize"]),
        "finetune": (passes / words.processes, width * words.steps * step, 0),
        "capture": (0, 0, written["capture"]),
        "convert": (0, 0, written["convert"]),
    }
    return {
        name: max(amount / rate[kind] for amount, kind in zip(amounts, ("flops", "memory", "files"), strict=True))
        for name, amounts in work.items()
    }


def in_its_own_process(name: str, words: argparse.Namespace) -> dict:
    """Run one step as a stage runs, in a new process, and return what it measured."""
    options = [f"--{key.replace('_', '-')}={value}" for key, value in vars(words).items() if key not in OWN]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-m", "bench.phi_shape", f"--step={name}", *options], env=environment, check=True)
    return json.loads(Path(f"{name}.json").read_text(encoding="utf-8"))


def main() -> None:
    """Run all steps and print the table, or run one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default=device.resolve("auto"))
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256, help="tokens of the longest example; here a token is a byte")
    parser.add_argument("--rows", type=int, default=32, help="calibration rows of 512 tokens")
    parser.add_argument("--method", choices=["lora", "rslora", "dora", "qlora"], default="lora", help="of finetune")
    parser.add_argument("--checkpointing", choices=["on", "off"], default="on", help="gradient checkpointing")
    parser.add_argument("--packing", choices=["on", "off"], default="off", help="rows of whole examples")
    parser.add_argument("--processes", type=int, default=1, help="of finetune, on as many GPUs")
    parser.add_argument("--stages", default=",".join(OUTPUTS), help="those to run, without a gap from the first on")
    parser.add_argument(
        "--keep", type=lambda text: Path(text).absolute(), help="a new folder for the captured model and its adapter"
    )
    parser.add_argument("--step", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.step:
        device.confine(words.device, words.processes if words.step == "finetune" else 1)
        files.write_json(Path(f"{words.step}.json"), measure(words.step, words))
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        Path("passes").symlink_to(ROOT / "passes")
        # A parameter may name no data outside of the project.
        shutil.copytree(ROOT / "data", "data")
        rate = in_its_own_process("rates", words)
        in_its_own_process("inputs", words)
        measured = {name: in_its_own_process(name, words) for name in words.stages.split(",")}
        report(words, measured, floors(words, rate), rate)
        if words.keep:
            shutil.move(CAPTURED, words.keep)
            shutil.copytree(CONVERTED, words.keep / "adapters" / ADAPTER)
        os.chdir(ROOT)


def report(
    words: argparse.Namespace, measured: dict[str, dict], least: dict[str, float], rate: dict[str, float]
) -> None:
    """Print the table, the sizes and what the training learned."""
    print(f"finetune by {words.method}, gradient checkpointing {words.checkpointing}, ", end="")
    print(f"packing {words.packing}, processes {words.processes}; ", end="")
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{name}: {rate['flops'] / 1e12:.1f} TFLOP/s, memory {rate['memory'] / 1e9:.0f} GB/s", end="")
    print(f", files {rate['files'] / 1e9:.1f} GB/s\n")
    print("| stage | seconds | floor | peak GPU memory, GB | peak host memory, GB | output, GB |")
    print("|---|---|---|---|---|---|")
    for stage, taken in measured.items():
        gpu = f"{taken['gpu'] / 1e9:.1f}" if taken["gpu"] else "–"
        sizes = f"{gpu} | {taken['host'] / 1e9:.1f} | {files.size(OUTPUTS[stage]) / 1e9:.2f}"
        print(f"| {stage} | {taken['seconds']:.1f} | {least[stage]:.1f} | {sizes} |")
    if "finetune" not in measured:
        return
    curves = files.read_json(TRAINED / "training_log.json")
    first, last = (curves["train"][index]["loss"] for index in (0, -1))
    if training := measured["finetune"]["training"]:
        rate = words.batch_size * words.tokens / training["median"]
        print(f"\nTraining itself: {training['all']:.1f} s, of which a pass in the median ", end="")
        print(f"{training['median'] * 1e3:.0f} ms: at most {rate:.0f} tokens/s")
    print(f"\nTraining loss: {first:.3f} at the first step, {last:.3f} at the last; held out {curves['heldout']}")


if __name__ == "__main__":
    os.environ.update(environment.STAGE)
    main()
