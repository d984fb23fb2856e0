"""Quantize a checkpoint by llm-compressor's AWQ and save it with the rounded weights in fp32.

Runs in an environment of its own (bench/llmcompressor.txt), started by bench.quantizers:

    python bench/llmcompressor_awq.py BASE ROWS.json TARGET --group-size 32

Prints the seconds from the loaded model to the chosen scales as the last line.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle import fake_quantize
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedModel


def main() -> None:
    """Quantize, round and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("rows", type=Path, help="JSON: a list of rows of token ids")
    parser.add_argument("target", type=Path)
    parser.add_argument("--group-size", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    if not torch.accelerator.is_available():
        # llm-compressor 0.14 pins memory for an accelerator even where there is none, and crashes.
        IntermediatesCache.pin_memory = lambda *_, **__: None
    model = AutoModelForCausalLM.from_pretrained(words.base, dtype=torch.float32)
    rows = json.loads(words.rows.read_text(encoding="utf-8"))
    dataset = Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]})
    weights = QuantizationArgs(num_bits=4, symmetric=False, strategy="group", group_size=words.group_size)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    recipe = [AWQModifier(), QuantizationModifier(config_groups={"group_0": scheme}, ignore=["lm_head"])]
    start = time.perf_counter()
    oneshot(
        model=model,
        dataset=dataset,
        recipe=recipe,
        num_calibration_samples=len(rows),
        max_seq_length=len(rows[0]),
        log_dir=None,
    )
    seconds = time.perf_counter() - start
    save(model, words.base, words.target)
    print(seconds)


@torch.no_grad()
def save(model: PreTrainedModel, base: Path, target: Path) -> None:
    """Save a plain checkpoint with each quantized linear's weight rounded."""
    for module in model.modules():
        scheme = getattr(module, "quantization_scheme", None)
        if scheme:
            zero_point = getattr(module, "weight_zero_point", None)
            weight = module.get_parameter("weight")
            weight.copy_(fake_quantize(weight, module.weight_scale, zero_point, scheme.weights))
    extra = ("_scale", "_zero_point", "_g_idx")
    state = {key: value.contiguous() for key, value in model.state_dict().items() if not key.endswith(extra)}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    target.mkdir(parents=True)
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        if (base / name).exists():
            (target / name).write_bytes((base / name).read_bytes())


if __name__ == "__main__":
    main()
