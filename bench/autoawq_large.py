"""Time AutoAWQ on the model that bench.awq_large times, for comparison; needs CUDA.

AutoAWQ is no longer maintained. It runs in a folder of its own on PYTHONPATH, with the wheels of autoawq 0.2.9 (built
from its source package with --no-deps --no-build-isolation), transformers 4.51.3, tokenizers 0.21.4, huggingface_hub
0.30.2, datasets 3.6.0, accelerate 1.6.0, multiprocess, dill and zstandard:

    PYTHONPATH=FOLDER python -m bench.autoawq_large [--layers 32]

It calibrates on 128 rows of 512 tokens, its default.
"""

import argparse
import tempfile
import time

import torch
from awq import AutoAWQForCausalLM
from transformers import AutoModelForCausalLM, Phi3Config

from bench.shapes import PHI_3_5_MINI

ROWS = 128


def main() -> None:
    """Make a random model, quantize it and print the seconds from loaded to quantized and saved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    words = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, torch.device("cuda"):
        config = Phi3Config(num_hidden_layers=words.layers, **PHI_3_5_MINI)
        AutoModelForCausalLM.from_config(config, torch_dtype=torch.float16).save_pretrained(folder)
        torch.cuda.empty_cache()
        torch.set_default_device("cpu")
        model = AutoAWQForCausalLM.from_pretrained(folder, safetensors=True, device_map="cpu", use_cache=False)
        ids = torch.randint(0, PHI_3_5_MINI["vocab_size"], (ROWS, 512), generator=torch.Generator().manual_seed(0))
        settings = {"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"}
        start = time.perf_counter()
        model.quantize(None, quant_config=settings, calib_data=ids.tolist(), max_calib_samples=ROWS)
        model.save_quantized(f"{folder}/quantized")
        print(f"AutoAWQ, {words.layers} layers: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
