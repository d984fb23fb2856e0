"""Run the pipeline's stages on a random model of exactly Phi-3.5-mini's shape; time, memory and floor of each.

    python -m bench.phi_shape [--device cuda] [--layers 32] [--steps 100] [--batch-size 8] [--tokens 256] [--rows 32]
                              [--method qlora] [--checkpointing off] [--packing on] [--processes 2]
                              [--stages quantize,finetune] [--keep FOLDER]

3.8 billion parameters in bf16, with the published configuration (long rope included) and a byte-level tokenizer.
Each stage runs in a process of its own, as DVC runs it, by the stage's own function: quantize (AWQ, group size 128),
finetune (rank 16 on all projections, gradient checkpointing; with several processes, each on a GPU of its own, of which
the fullest is shown), capture and convert (for the CPU). The floor of a stage is the longest of its arithmetic, its
traffic to the device's memory and its files, at the rates that the machine reaches in a plain product, copy and write,
which are measured first. It needs no network: on a machine that reaches no package registry, put the wheels of
requirements.lock into a folder on PYTHONPATH. What is kept is a package, as `python -m bench.runtime --package FOLDER`
wants it.
"""

import argparse
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench import stages
from bench.shapes import LONG_ROPE, PHI_3_5_MINI, make_phi
from bench.stages import ADAPTER, CAPTURED, CONVERTED, OUTPUTS, ROOT, TRAINED
from press.core import environment, files, paths
from press.data import jsonl
from press.model import device
from press.params import settings
from press.sources import tokenizers

GROUP_SIZE, RANK = 128, 16
MODULES = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
OWN = ("step", "keep")  # words that are not handed to a step

if __name__ == stages.STARTED:
    # One of several processes of a training.
    stages.watch_training()


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
    make_phi(paths.BASE, words.layers, words.device, **ids)
    # As the hub has it: what transformers writes names the rope otherwise.
    config = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "torch_dtype": "bfloat16"}
    config |= {"num_hidden_layers": words.layers, **PHI_3_5_MINI, **LONG_ROPE, **ids}
    files.write_json(paths.BASE / paths.CONFIG, config)
    stages.prepare(parameters(words).adapter(ADAPTER), tokenizer)


def take(name: str, words: argparse.Namespace) -> dict[str, Any]:
    """Run one step in this process, and return what it found."""
    if name == "rates":
        return rates(words.device)
    if name == "inputs":
        make_inputs(words)
        return {}
    return stages.measure(name, parameters(words), words.device)


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
        [len(example["input_ids"]) for example in jsonl.read(paths.PREPARED / ADAPTER / split)]
        for split in (paths.TRAIN, paths.HELDOUT)
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
    """Run one step in a new process, and return what it found."""
    options = [f"--{key.replace('_', '-')}={value}" for key, value in vars(words).items() if key not in OWN]
    return stages.in_its_own_process("bench.phi_shape", f"--step={name}", *options)


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
        files.write_json(stages.FOUND, take(words.step, words))
        return
    with stages.project():
        rate = in_its_own_process("rates", words)
        in_its_own_process("inputs", words)
        measured = {name: in_its_own_process(name, words) for name in words.stages.split(",")}
        report(words, measured, floors(words, rate), rate)
        if words.keep:
            shutil.move(CAPTURED, words.keep)
            shutil.copytree(CONVERTED, words.keep / "adapters" / ADAPTER)


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
        sizes = f"{gpu} | {taken['host'] / 1e9:.1f} | {taken['output'] / 1e9:.2f}"
        print(f"| {stage} | {taken['seconds']:.1f} | {least[stage]:.1f} | {sizes} |")
    if "finetune" not in measured:
        return
    curves = files.read_json(TRAINED / paths.TRAINING_LOG)
    first, last = (curves["train"][index]["loss"] for index in (0, -1))
    training = measured["finetune"]["training"]
    rate = words.batch_size * words.tokens / training["median"]
    print(f"\nTraining itself: {training['all']:.1f} s, of which a pass in the median ", end="")
    print(f"{training['median'] * 1e3:.0f} ms: at most {rate:.0f} tokens/s")
    print(f"\nTraining loss: {first:.3f} at the first step, {last:.3f} at the last; held out {curves['heldout']}")


if __name__ == "__main__":
    os.environ.update(environment.STAGE)
    main()
