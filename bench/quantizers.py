"""Compare the quantizers on the pipeline's base model, its rotated form and its form by QuaRot: quality and time.

    make bench-quantizers    after `make repro`, which makes models/base and prepared/
    python -m bench.quantizers --help

Prints a Markdown table. KL divergence from fp32 and perplexity are of text that no quantizer saw: data/general.jsonl
("text") and the adapters' held-out examples ("chat"). The calibration rows are the same for all that use any.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench import rotation
from press.core import environment
from press.data import jsonl, passages, tokens
from press.model import checkpoints, olive_run, quantization
from press.params import schema, settings

BASE = Path("models/base")
TEXT = Path("data/general.jsonl")
ROW_TOKENS = 256
BATCH = 4
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
QUANTIZERS = ("rtn", "q4_1", "kquant", "gptq", "llm-compressor", "awq, nearest", "awq")


@dataclass
class Heldout:
    """Held-out rows with the log-probabilities of fp32, in fp16 of shape (rows, tokens, vocabulary)."""

    rows: torch.Tensor
    expected: torch.Tensor

    @classmethod
    def of(cls, model: torch.nn.Module, rows: torch.Tensor) -> "Heldout":
        return cls(rows, torch.cat([logits.half() for logits in log_probabilities(model, rows)]))


def log_probabilities(model: torch.nn.Module, rows: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the log-probabilities of the rows, batch by batch."""
    for batch in rows.split(BATCH):
        with torch.inference_mode():
            yield model(input_ids=batch.to(DEVICE), use_cache=False).logits.float().log_softmax(-1)


def quality(model: torch.nn.Module, heldout: Heldout) -> tuple[float, float]:
    """Return the mean KL divergence from fp32 in nats a token, and the perplexity."""
    divergence = loss = 0.0
    expected = heldout.expected.split(BATCH)
    for got, wanted, ids in zip(
        log_probabilities(model, heldout.rows), expected, heldout.rows.split(BATCH), strict=True
    ):
        before, after = wanted[:, :-1].float(), got[:, :-1]
        divergence += (before.exp() * (before - after)).sum().item()
        loss -= after.gather(-1, ids[:, 1:, None].to(DEVICE)).sum().item()
    tokens = heldout.rows[:, 1:].numel()
    return divergence / tokens, torch.tensor(loss / tokens).exp().item()


def text_rows(path: Path, model: Path) -> torch.Tensor:
    """Return the tokens of a JSON Lines file's texts in rows, each of which begins as a text does in use."""
    tokenizer = checkpoints.tokenizer(model)
    texts = passages.read(path, tokenizer, "evaluate.general")
    return in_rows([tokens.encode(tokenizer, text) for text in texts], tokens.start(tokenizer))


def in_rows(parts: list[list[int]], start: list[int]) -> torch.Tensor:
    """Join lists of token ids and cut them into rows, int64 of shape (rows, ROW_TOKENS).

    :param start: the token that each row begins with, and no part
    """
    width = ROW_TOKENS - len(start)
    ids = torch.tensor([token for part in parts for token in part])
    rows = ids[: len(ids) // width * width].reshape(-1, width)
    return torch.cat([torch.tensor(start, dtype=rows.dtype).expand(len(rows), -1), rows], dim=1)


def cut(base: Path, layers: int, target: Path) -> Path:
    """Write the model with its first layers only."""
    model = checkpoints.load(base)
    decoder: Any = model.model
    decoder.layers = decoder.layers[:layers]
    model.config.num_hidden_layers = layers
    model.save_pretrained(target)
    rotation.copy_tokenizer(base, target)
    return target


def by_olive(base: Path, params: schema.Quantize, scratch: Path, seed: int) -> tuple[torch.nn.Module, float]:
    """Quantize by a pass of the pipeline; return the model with plain weights, and the seconds."""
    start = time.perf_counter()
    quantized = quantization.quantize(params, base, scratch, seed)
    seconds = time.perf_counter() - start
    return checkpoints.dequantize(checkpoints.load(quantized)), seconds


def by_quarot(base: Path, scratch: Path) -> None:
    """Write the base as `passes: {before_quantize: [{type: QuaRot}]}` hands it to the quantizer."""
    scratch.mkdir()
    olive_run.run(olive_run.hf_model(base), {"before_quantize_0": {"type": "QuaRot"}}, scratch)


def by_gguf(base: Path) -> tuple[torch.nn.Module, float]:
    """Round the layers' weights as llama.cpp's Q4_1 does: blocks of 32, each with a scale and a minimum in fp16."""
    from gguf import GGMLQuantizationType, quants

    start = time.perf_counter()
    model = checkpoints.load(base)
    for layer in model.model.layers:
        for linear in (module for module in layer.modules() if isinstance(module, torch.nn.Linear)):
            codes = quants.quantize(linear.weight.detach().float().numpy(), GGMLQuantizationType.Q4_1)
            linear.weight.data = torch.from_numpy(quants.dequantize(codes, GGMLQuantizationType.Q4_1))
    return model, time.perf_counter() - start


def by_llm_compressor(
    base: Path, params: schema.Quantize, scratch: Path, python: Path, threads: int
) -> tuple[torch.nn.Module, float]:
    """Quantize by llm-compressor's AWQ in its own environment."""
    from passes.data import calibration_rows

    rows = calibration_rows(params.calibration.data, str(base), params.calibration.rows, params.calibration.row_tokens)
    listed = scratch / "rows.json"
    listed.write_text(json.dumps([row["input_ids"].tolist() for row, _ in rows]), encoding="utf-8")
    words = [str(python), "bench/llmcompressor_awq.py", str(base), str(listed), str(scratch / "result")]
    words += ["--group-size", str(params.group_size), "--threads", str(threads)]
    # On a GPU it leaves the weights as they were (0.14.0.1).
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    if run.returncode:
        sys.exit(f"llm-compressor failed:\n{run.stderr[-4000:]}")
    return checkpoints.load(scratch / "result"), float(run.stdout.strip().splitlines()[-1])


def variant(params: schema.Quantize, quantizer: str, group_size: int, rows: int) -> schema.Quantize:
    """Return the parameters of a quantizer of the table."""
    calibration = params.calibration.model_copy(update={"rows": rows})
    changes: dict[str, Any] = {"group_size": group_size, "calibration": calibration}
    if quantizer not in ("llm-compressor", "q4_1"):
        algorithm, _, rounding = quantizer.partition(", ")
        changes["algorithm"] = algorithm
        if rounding:
            changes["awq"] = params.awq.model_copy(update={"rounding": rounding})
    return params.model_copy(update=changes)


def line(model: str, quantizer: str, group_size: str, seconds: str, figures: list[tuple[float, float]]) -> str:
    """Return one line of the table."""
    divergences, perplexities = zip(*figures, strict=True)
    cells = [*(f"{value:.4f}" for value in divergences), *(f"{value:.2f}" for value in perplexities)]
    return f"| {' | '.join([model, quantizer, group_size, *cells, seconds])} |"


def words() -> argparse.Namespace:
    """Return the command line's words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=["base", "rotated", "quarot"], default=["base", "rotated"])
    parser.add_argument("--group-sizes", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--quantizers", nargs="+", choices=QUANTIZERS, default=list(QUANTIZERS))
    parser.add_argument("--layers", type=int, help="use only the first layers of the model, to compare times")
    parser.add_argument("--rows", type=int, help="calibration rows (default: quantize.calibration.rows)")
    parser.add_argument(
        "--llm-compressor", type=Path, help="python of an environment with bench/llmcompressor.txt; left out without"
    )
    return parser.parse_args()


def heldout_rows(adapters: Iterable[str]) -> dict[str, torch.Tensor]:
    """Return the rows of both kinds of held-out text."""
    start = tokens.start(checkpoints.tokenizer(BASE))
    chats = [example for name in adapters for example in jsonl.read(Path("prepared") / name / "heldout.jsonl")]
    # A template may have written it.
    ids = [chat["input_ids"][len(start) * (chat["input_ids"][: len(start)] == start) :] for chat in chats]
    return {"text": text_rows(TEXT, BASE), "chat": in_rows(ids, start)}


def measure(base: Path, quantizer: str, params: settings.Settings, python: Path, heldouts: list[Heldout]) -> tuple:
    """Quantize, and return the quality on each held-out text and the seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        if quantizer == "llm-compressor":
            model, seconds = by_llm_compressor(base, params.quantize, Path(scratch), python, params.threads)
        elif quantizer == "q4_1":
            model, seconds = by_gguf(base)
        else:
            model, seconds = by_olive(base, params.quantize, Path(scratch), params.seed)
        return [quality(model.to(DEVICE), heldout) for heldout in heldouts], seconds


def main() -> None:
    """Measure each quantizer, telling it on stderr, and print the table at the end: Olive prints in between."""
    chosen = words()
    params = settings.load()
    torch.set_num_threads(params.threads)
    rows = chosen.rows or params.quantize.calibration.rows
    quantizers = [name for name in chosen.quantizers if chosen.llm_compressor or name != "llm-compressor"]
    texts = heldout_rows(params.adapters)
    table = [
        "| model | quantizer | group size | KL text | KL chat | perplexity text | perplexity chat | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def tell(row: str) -> None:
        table.append(row)
        print(row, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        base = cut(BASE, chosen.layers, Path(scratch) / "cut") if chosen.layers else BASE
        bases = {"base": base, "rotated": Path(scratch) / "rotated", "quarot": Path(scratch) / "quarot/olive/model"}
        if "rotated" in chosen.models:
            rotation.rotate(base, bases["rotated"])
        if "quarot" in chosen.models:
            by_quarot(base, Path(scratch) / "quarot")
        for name in chosen.models:
            reference = checkpoints.load(bases[name], DEVICE)
            heldouts = [Heldout.of(reference, ids) for ids in texts.values()]
            tell(line(name, "fp32", "–", "–", [quality(reference, heldout) for heldout in heldouts]))
            for group_size, quantizer in itertools.product(chosen.group_sizes, quantizers):
                if quantizer == "q4_1" and group_size != 32:
                    continue
                varied = params.model_copy(update={"quantize": variant(params.quantize, quantizer, group_size, rows)})
                figures, seconds = measure(bases[name], quantizer, varied, chosen.llm_compressor, heldouts)
                tell(line(name, quantizer, str(group_size), f"{seconds:.0f}", figures))
    print("\n".join(table))


if __name__ == "__main__":
    os.environ.update(environment.STAGE)
    main()
