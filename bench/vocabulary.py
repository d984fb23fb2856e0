"""What it costs to score a model with a large vocabulary in PyTorch, as `evaluate` does for each rung.

    python -m bench.vocabulary                            Gemma 3 270M's shape with random weights, 262,144 entries
    python -m bench.vocabulary --logits-mb 64

Prints the processor time of each scored token of the reference and of a model that is compared with it, and the peak
memory beyond that of the loaded model.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import memory
from press.core import arithmetic, environment
from press.data.examples import Example
from press.quality import scoring

GEMMA_3_270M = {
    "model_type": "gemma3_text",
    "vocab_size": 262_144,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
}


def main(words: Sequence[str] | None = None) -> None:
    """Score random texts by a random model, twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"logits-mb": 256, "texts": 8, "prompt": 80, "answer": 40}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size, help=f"default: {size}")
    chosen = parser.parse_args(words)
    environment.prepare(online=False)
    arithmetic.begin(arithmetic.NATIVE, threads=2)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**GEMMA_3_270M)).eval()
    ids = torch.randint(3, GEMMA_3_270M["vocab_size"], (chosen.texts, chosen.prompt + chosen.answer)).tolist()
    examples = [Example(prompt="", completion="", input_ids=row, prompt_tokens=chosen.prompt) for row in ids]
    tokens = chosen.logits_mb * 10**6 // (scoring.FLOAT * GEMMA_3_270M["vocab_size"])
    loaded = memory.peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        for name, score in (("reference", scoring.record), ("compared", scoring.score)):
            started = time.process_time()
            figures = score(scoring.torch_logits(model, examples, tokens), examples, Path(folder) / "text").score()
            seconds = (time.process_time() - started) / (chosen.texts * chosen.answer)
            print(f"{name}: {1000 * seconds:.1f} ms of processor time a scored token, {figures}")
    print(f"peak memory: {memory.peak_bytes() / 1e6:.0f} MB, of which the model took {loaded / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
