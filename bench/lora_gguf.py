"""A LoRA adapter of a llama as llama.cpp reads it: GGUF, as its own convert_lora_to_gguf.py writes it."""

import re
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from safetensors.numpy import load_file

from press.core import files

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TENSOR = re.compile(r"layers\.(\d+)\.(\w+\.\w+)\.lora_([AB])\.weight$")


def write(adapter: Path, heads: dict[str, int], target: Path) -> Path:
    """Write a PEFT adapter as GGUF.

    :param heads: how many heads q_proj and k_proj have, whose rows llama.cpp has in another order
    """
    config = files.read_json(adapter / "adapter_config.json")
    writer = GGUFWriter(target, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(config["lora_alpha"]))
    for name, tensor in load_file(adapter / "adapter_model.safetensors").items():
        match = TENSOR.search(name)
        assert match, name
        layer, linear, which = match.groups()
        array = tensor.astype(np.float32)
        if which == "B" and (count := heads.get(linear.rpartition(".")[2])):
            array = permuted(array, count)
        writer.add_tensor(f"blk.{layer}.{NAMES[linear]}.weight.lora_{which.lower()}", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """Return a projection's rows with the two halves of each head interleaved, as llama.cpp rotates them."""
    shape = heads, 2, rows.shape[0] // heads // 2, rows.shape[1]
    return np.ascontiguousarray(rows.reshape(shape).swapaxes(1, 2).reshape(rows.shape))
