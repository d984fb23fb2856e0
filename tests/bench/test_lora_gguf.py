"""An adapter as llama.cpp reads it: each tensor by its name there, and the heads' rows in its order."""

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import save_file

from bench import lora_gguf
from press.core import files


def test_each_tensor_has_its_name_and_the_heads_rows_their_order(tmp_path):
    files.write_json(tmp_path / "adapter_config.json", {"lora_alpha": 32.0})
    layer = "base_model.model.model.layers.3"
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    tensors = {f"{layer}.self_attn.{linear}.lora_B.weight": rows for linear in ("q_proj", "v_proj")}
    tensors[f"{layer}.self_attn.q_proj.lora_A.weight"] = np.ones((1, 6), np.float32)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    made = GGUFReader(lora_gguf.write(tmp_path, {"q_proj": 2, "k_proj": 1}, tmp_path / "lora.gguf"))
    found = {each.name: each.data for each in made.tensors}
    # Two heads of four rows, each in two halves that are rotated together.
    assert found["blk.3.attn_q.weight.lora_b"].ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert found["blk.3.attn_v.weight.lora_b"].ravel().tolist() == list(range(8))
    assert found["blk.3.attn_q.weight.lora_a"].shape == (1, 6)
    assert made.fields["adapter.lora.alpha"].contents() == 32
