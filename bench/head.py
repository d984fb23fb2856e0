"""What the precision of embedding and lm_head costs and gives on the pipeline's quantized model.

    python -m bench.head         after `make repro`, which makes models/quantized
    python -m bench.head --help

Captures models/quantized once for each variant, a precision with a block size and an accuracy level, and prints a
Markdown table: size of the captured folder; KL divergence from the same quantized model in PyTorch (fp32 head and
activations), share of tokens with the same likeliest next token, and perplexity, on data/general.jsonl; tokens decoded
a second, the variants taking turns in one process, so that what else the machine does hits all.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from bench.quantizers import TEXT, text_rows
from press.core import environment, files
from press.model import checkpoints, graphs, olive_run
from press.params import schema, settings

QUANTIZED = Path("models/quantized")
VARIANTS = ("int4/32/4", "int8/32/4", "int8/64/4", "float/32/4", "int4/32/1", "int8/32/1", "float/32/1")
PROMPT = list(range(1000, 1032))


@dataclass
class Figures:
    """What was measured of a variant; sums over tokens."""

    folder: Path
    divergence: float = 0.0
    agreement: int = 0
    loss: float = 0.0
    speeds: list[float] = field(default_factory=list)


def captured(variant: str, target: schema.Target, scratch: Path) -> Path:
    """Capture the quantized model for a variant, PRECISION/BLOCK_SIZE/ACCURACY_LEVEL; return its folder."""
    precision, block_size, accuracy_level = variant.split("/")
    changes = {"precision": precision, "block_size": int(block_size), "accuracy_level": int(accuracy_level)}
    folder = scratch / variant.replace("/", "-")
    with files.building(folder) as building:
        files.publish(graphs.build(olive_run.hf_model(QUANTIZED), target.model_copy(update=changes), building), folder)
    return folder


def compare(figures: dict[str, Figures], rows: torch.Tensor, threads: int) -> None:
    """Add up each variant's distance from PyTorch over the rows of tokens."""
    from press.model.runtime import Runtime

    model = checkpoints.dequantize(checkpoints.load(QUANTIZED))
    runtimes = {variant: Runtime(measured.folder, {}, threads) for variant, measured in figures.items()}
    for row in rows:
        with torch.inference_mode():
            expected = model(input_ids=row[None]).logits[0, :-1].log_softmax(-1)
        for variant, measured in figures.items():
            got = torch.from_numpy(runtimes[variant].logits(row.tolist(), None)[:-1]).log_softmax(-1)
            measured.divergence += (expected.exp() * (expected - got)).sum().item()
            measured.agreement += (expected.argmax(-1) == got.argmax(-1)).sum().item()
            measured.loss -= got.gather(-1, row[1:, None]).sum().item()


def race(figures: dict[str, Figures], threads: int, rounds: int, tokens: int) -> None:
    """Let the variants decode in turns, and note the tokens a second of each turn."""
    import onnxruntime_genai as og

    models = {}
    for variant, measured in figures.items():
        config = og.Config(str(measured.folder))
        options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        models[variant] = og.Model(config)
    for turn in range(rounds + 1):
        for variant, model in models.items():
            params = og.GeneratorParams(model)
            length = len(PROMPT) + 1 + tokens
            params.set_search_options(max_length=length, min_length=length, do_sample=False)
            generator = og.Generator(model, params)
            generator.append_tokens(PROMPT)
            generator.generate_next_token()
            start = time.perf_counter()
            for _ in range(tokens):
                generator.generate_next_token()
            # The first turn warms up.
            figures[variant].speeds += [tokens / (time.perf_counter() - start)] * (turn > 0)


def line(variant: str, measured: Figures, tokens: int, reference: Figures) -> str:
    """Return one line of the table; speed also as the median over the turns of its ratio to the reference's."""
    ratio = statistics.median(own / other for own, other in zip(measured.speeds, reference.speeds, strict=True))
    cells = [
        *variant.split("/"),
        f"{files.size(measured.folder) / 1e6:.1f}",
        *_quality(measured, tokens),
        f"{statistics.median(measured.speeds):.1f}",
        f"{ratio:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def _quality(measured: Figures, tokens: int) -> list[str]:
    if not tokens:
        return ["–"] * 3
    perplexity = np.exp(measured.loss / tokens)
    return [f"{measured.divergence / tokens:.4f}", f"{measured.agreement / tokens:.1%}", f"{perplexity:.2f}"]


def words() -> argparse.Namespace:
    """Return the command line's words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--variants", nargs="+", default=list(VARIANTS), help="PRECISION/BLOCK_SIZE/ACCURACY_LEVEL; the first is 1.0"
    )
    parser.add_argument("--rows", type=int, default=24, help="rows of 256 tokens; 0 only decodes")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each variant at decoding")
    parser.add_argument("--tokens", type=int, default=96, help="tokens decoded in a turn")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the table at the end: Olive prints in between."""
    chosen = words()
    params = settings.load()
    torch.set_num_threads(params.threads)
    rows = text_rows(TEXT, QUANTIZED)[: chosen.rows]
    with tempfile.TemporaryDirectory() as scratch:
        target = params.target("cpu")
        figures = {variant: Figures(captured(variant, target, Path(scratch))) for variant in chosen.variants}
        race(figures, params.threads, chosen.rounds, chosen.tokens)
        compare(figures, rows, params.threads)
        count = rows[:, 1:].numel()
        print("| precision | block size | accuracy level | MB | KL | same token | perplexity | tokens/s | ratio |")
        print("|---|---|---|---|---|---|---|---|---|")
        for variant, measured in figures.items():
            print(line(variant, measured, count, figures[chosen.variants[0]]))
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ.update(environment.STAGE)
    main()
