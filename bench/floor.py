"""What the pipeline, as it is built here, has to multiply at least, and how long this processor takes for that alone.

    python -m bench.floor

Counts the multiplications of the tokens that the stages pass through the model: those of its linear layers, of lm_head
where a token is scored or learned, and of AWQ's Gram matrices (a triangle of each). It counts no padding, attention or
elementwise loop, no search of scales, no answers and no imports. Then it measures the model's own products on one
thread, in the arithmetic that params.yaml chooses, and prints a Markdown table of processor seconds at the fastest of
them: what no change of the code can undercut as long as these models are trained and scored on these tokens.
"""

import os
import sys
import time
from collections.abc import Iterable

from safetensors import safe_open

from press.core import arithmetic, paths
from press.data import jsonl
from press.model import checkpoints
from press.params import settings

ROWS = (256, 1024)
TURNS = 3
# Of the modules that share an input, and so a Gram matrix, one.
GRAMS = ("q_proj", "o_proj", "gate_proj", "down_proj")


def linears() -> dict[str, tuple[int, int]]:
    """Return the shape (out, in) of each linear layer of the base."""
    with safe_open(paths.BASE / checkpoints.SINGLE, "np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - it is no dict
    return {name: shape for name, shape in shapes.items() if ".layers." in name and len(shape) == 2}


def multiplied(params: settings.Settings, shapes: dict[str, tuple[int, int]], head: int) -> dict[str, float]:
    """Return the multiplications of each stage that computes."""
    weights = sum(rows * columns for rows, columns in shapes.values())
    calibration = params.quantize.calibration.rows * params.quantize.calibration.row_tokens
    grams = sum(shape[1] ** 2 / 2 for name, shape in shapes.items() if name.split(".")[-2] in GRAMS)
    found = {"quantize": calibration * (weights + grams), "evaluate": 0.0}
    general = params.evaluate.general.rows * params.evaluate.general.row_tokens
    for name, adapter in params.adapters.items():
        train, heldout = (list(jsonl.read(paths.PREPARED / name / file)) for file in (paths.TRAIN, paths.HELDOUT))
        training, branches = adapter.training, adapter.lora.rank * sum(map(sum, shapes.values()))
        examples = training.max_steps * training.batch_size * training.gradient_accumulation
        tokens, scored = (size * examples / len(train) for size in _sizes(train))
        # Forwards, and backwards to what goes in; those of an adapter also to its weights.
        learned = tokens * (2 * weights + 3 * branches) + scored * 2 * head
        tokens, scored = _sizes(heldout)
        once = tokens * (weights + branches) + scored * head
        found[f"finetune@{name}"] = learned + training.max_steps // training.checkpoint_every * once
        # In PyTorch the base, its quantized form and the adapter; in ONNX without the adapter and with it.
        found["evaluate"] += 5 * (tokens * weights + scored * head) + 2 * tokens * branches
        # In ONNX with the adapter.
        found["evaluate"] += general * (weights + branches + head)
    # In PyTorch the base, its quantized form and that with the graph's tables, in ONNX without an adapter.
    found["evaluate"] += 4 * general * (weights + head)
    return found


def _sizes(examples: Iterable[dict]) -> tuple[int, int]:
    """Return how many tokens there are, and how many of them are learned or scored."""
    sizes = [(len(each["input_ids"]), len(each["input_ids"]) - each["prompt_tokens"]) for each in examples]
    return sum(size for size, _ in sizes), sum(size for _, size in sizes)


def rate(shapes: Iterable[tuple[int, int]]) -> float:
    """Return the multiplications a second of the fastest of the model's products, on one thread."""
    import torch

    fastest = 0.0
    for rows in ROWS:
        for shape in shapes:
            left, weight = torch.randn(rows, shape[1]), torch.randn(shape)
            for _ in range(TURNS):
                start = time.process_time()
                torch.mm(left, weight.t())
                fastest = max(fastest, rows * shape[0] * shape[1] / (time.process_time() - start))
    return fastest


def main() -> None:
    """Count, measure, and print the table."""
    params = settings.load()
    arithmetic.begin(params.arithmetic, 1)
    shapes, config = linears(), checkpoints.read_object(paths.BASE / paths.CONFIG)
    measured = rate(sorted(set(shapes.values())))
    found = multiplied(params, shapes, config["vocab_size"] * config["hidden_size"])
    print(f"{params.arithmetic} arithmetic, {2 * measured / 1e9:.0f} GFLOP/s of one core\n")
    print("| stage | TFLOP | processor seconds at least |\n|---|---|---|")
    for name, count in {**found, "all": sum(found.values())}.items():
        print(f"| {name} | {2 * count / 1e12:.2f} | {count / measured:.0f} |")


if __name__ == "__main__":
    wanted, _ = arithmetic.variables(os.environ)
    # Libraries read these when they load.
    if arithmetic.is_portable(arithmetic.chosen()) and wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)
    main()
