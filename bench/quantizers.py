"""Compare the quantization algorithms on the pipeline's base model: time, and loss of the held-out answers.

    make bench        after `make repro`, which makes models/base and prepared/

Prints a Markdown table; everything but the algorithm and the group size is as in params.yaml.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from press import checkpoints, command, examples, scoring, settings

BASE = Path("models/base")
VARIANTS = (("rtn", 32), ("kquant", 32), ("gptq", 32), ("rtn", 64), ("kquant", 64), ("gptq", 64))


def losses(model: object, heldout: dict[str, list[examples.Example]]) -> list[float]:
    """Return the mean loss of each adapter's held-out answers, in nats a token."""
    return [scoring.score(scoring.torch_losses(model, some))["loss"] for some in heldout.values()]


def row(name: str, seconds: float | None, figures: list[float]) -> str:
    """Return one line of the table."""
    cells = [name, "–" if seconds is None else f"{seconds:.0f}", *(f"{figure:.3f}" for figure in figures)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure each variant, telling it on stderr, and print the table at the end: Olive prints in between."""
    import torch

    from stages import quantize

    params = settings.load()
    torch.set_num_threads(params.threads)
    heldout = {name: examples.read(Path("prepared") / name / "heldout.jsonl") for name in params.adapters}
    table = [
        f"| quantizer | seconds | {' | '.join(f'loss of {name}' for name in heldout)} |",
        f"|---|---|{'---|' * len(heldout)}",
        row("fp32", None, losses(checkpoints.load(BASE), heldout)),
    ]
    for algorithm, group_size in VARIANTS:
        variant = params.quantize.model_copy(update={"algorithm": algorithm, "group_size": group_size})
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            result = quantize.quantize(variant, BASE, Path(scratch))
            seconds = time.perf_counter() - start
            model = checkpoints.dequantize(checkpoints.load(result))
        table.append(row(f"{algorithm}, group size {group_size}", seconds, losses(model, heldout)))
        print(table[-1], file=sys.stderr, flush=True)
    print("\n".join(table))


if __name__ == "__main__":
    os.environ.update(command.ENVIRONMENT)
    main()
