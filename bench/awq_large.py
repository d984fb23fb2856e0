"""Time AWQ on a model of Phi-3.5-mini's shape with random weights, part by part.

    python -m bench.awq_large [--device cuda] [--layers 32] [--rows 64]

Time runs from the loaded model to the saved checkpoint. The parts come from a second run, which waits for the
device around each of them and so takes a little longer in all. Prints a Markdown table, and whether both runs gave
the same bytes.
"""

import argparse
import gc
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from olive.model import HfModelHandler
from olive.passes.olive_pass import create_pass_from_dict
from olive.passes.pytorch import quant_utils

from bench.memory import peak_bytes
from bench.shapes import PHI_3_5_MINI, make_phi
from passes import awq
from passes.activation_aware import calibration, quantization, search
from press.core import environment, files

PARTS = {
    "forward and Gram matrices": (calibration.LayerInputs, "advance"),
    "of which Gram matrices": (calibration.Moments, "add"),
    "scale search": (search, "scale_losses"),
    "clipping": (search, "clipped_parameters"),
    "rounding": (quantization, "compensated_codes"),
    "packing": (quantization, "_quant_linear"),
    "saving": (awq, "finalize"),
}


def quantize(folder: Path, rows: int, device: torch.device) -> tuple[float, str]:
    """Quantize the model in a folder; return the seconds from loaded to saved, and the checkpoint's digest."""
    handler = HfModelHandler(str(folder))
    settings = {"group_size": 128, "rows": rows, "row_tokens": 512, "device": device.type, "data_config": {}}
    config = create_pass_from_dict(awq.Awq, settings, disable_search=True).config
    wrapper, quantization_config, _ = quant_utils.prepare_model(handler, config)
    ids = torch.randint(0, PHI_3_5_MINI["vocab_size"], (rows, 512), generator=torch.Generator().manual_seed(0))
    output = folder.parent / "quantized"
    start = time.perf_counter()
    with torch.no_grad():
        quantization.quantize_layers(wrapper, ids, config, device)
        awq.finalize(handler, str(output), wrapper, quantization_config, str(device))
    seconds = time.perf_counter() - start
    digest = files.folder_digest(output)
    shutil.rmtree(output)
    return seconds, digest


def timed_parts(device: torch.device) -> dict[str, float]:
    """Replace each part by one that adds up its time; return the sums, filled in as they run."""
    sums: dict[str, float] = defaultdict(float)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    def timed(name: str, function: Callable) -> Callable:
        def run(*values, **options):
            wait()
            start = time.perf_counter()
            result = function(*values, **options)
            wait()
            sums[name] += time.perf_counter() - start
            return result

        return run

    for name, (owner, attribute) in PARTS.items():
        setattr(owner, attribute, timed(name, getattr(owner, attribute)))
    return sums


def main() -> None:
    """Make the model, quantize it twice and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--rows", type=int, default=64)
    words = parser.parse_args()
    device = torch.device(words.device)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        make_phi(folder, words.layers, words.device)
        gc.collect()
        quantize(folder, 8, device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        total, digest = quantize(folder, words.rows, device)
        parts = timed_parts(device)
        again, digest_again = quantize(folder, words.rows, device)
    print("| part | seconds |\n|---|---|")
    print(f"| all | {total:.2f} |")
    for name, seconds in [("all, timed by parts", again), *parts.items()]:
        print(f"| {name} | {seconds:.2f} |")
    same = "the same bytes" if digest == digest_again else "DIFFERENT BYTES"
    host = peak_bytes()
    print(f"\nBoth runs gave {same}. Peak host memory: {host / 1e9:.1f} GB")
    if device.type == "cuda":
        print(f"Peak GPU memory: {torch.cuda.max_memory_allocated() / 1e9:.1f} GB on {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    os.environ.update(environment.STAGE)
    main()
