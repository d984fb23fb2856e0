"""A base that others quantized goes through the pipeline with its own integers, and takes adapters."""

import pytest
import torch
from architectures import TOKENIZER, random_model, save
from parity import TOLERANCE, captured_to, converted, distance, pytorch_logits, random_adapter
from projects import ROOT
from quantized_checkpoints import rewrite

from press.core import files
from press.core.errors import UserError
from press.model import checkpoints, quantization
from press.model.runtime import Runtime
from press.params import settings
from press.sources import fetching, folder, integers

pytestmark = pytest.mark.integration
PARAMS = settings.load(ROOT / "params.yaml").quantize
IDS = TOKENIZER("A question?\nAn answer.")["input_ids"]
# The layout, bits, size of groups (-1: one a row, which becomes 64, what divides all), whether they are symmetric.
BASES = [
    ("gptq", 4, 32, True),
    ("gptq_v2", 8, 16, False),
    ("gemm", 4, 32, False),
    ("pack-quantized", 4, 32, False),
    ("int-quantized", 8, -1, True),
]


@pytest.mark.parametrize(("layout", "bits", "group_size", "symmetric"), BASES)
def test_weights_are_those_that_the_checkpoint_s_integers_stand_for(in_root, layout, bits, group_size, symmetric):
    base = save(random_model("qwen2"), in_root / "base")
    worth = rewrite(base, layout, bits, group_size, symmetric)
    fetched = in_root / "fetched"
    fetched.mkdir()
    folder.copy_checkpoint(base, False, fetched)
    integers.bring(fetched)
    fetching.check(fetched, False)
    params = kept(bits, 64 if group_size == -1 else group_size, symmetric)
    result = quantization.quantize(params, fetched, in_root, 0)
    assert files.folder_digest(result) == files.folder_digest(fetched)
    model = checkpoints.dequantize(checkpoints.load(result)).state_dict()
    assert all(model[name].equal(weight) for name, weight in worth.items())
    if layout == "gemm":
        check_graph(in_root, result)
    with pytest.raises(
        UserError, match=r"quantized already, which is not done twice: quantize\.algorithm must be none"
    ):
        quantization.quantize(params.model_copy(update={"algorithm": "rtn"}), fetched, in_root, 0)


def check_graph(root, checkpoint):
    """An adapter on the kept integers gives PyTorch's logits, as the bare graph does."""
    modules = sorted({name.rpartition(".")[2] for name in checkpoints.module_rows(checkpoint) if ".layers." in name})
    adapter = random_adapter(checkpoint, root / "adapter", 4, modules)
    captured = captured_to(root, checkpoint)
    path = converted(adapter, captured / "lora_inputs.json", root / "adapter.onnx_adapter")
    runtime = Runtime(captured, {"adapter": path}, threads=2)
    for name, its in ((None, None), ("adapter", adapter)):
        assert distance(runtime.logits(IDS, name), pytorch_logits(checkpoint, its, IDS)) < TOLERANCE


def kept(bits: int, group_size: int, symmetric: bool) -> object:
    changes = {"algorithm": "none", "bits": bits, "group_size": group_size, "symmetric": symmetric}
    return PARAMS.model_copy(update=changes)


def test_a_plain_base_has_no_integers_to_keep(tiny_base, in_root):
    with pytest.raises(UserError, match=r"but the base model is not quantized: choose awq, rtn, gptq, kquant$"):
        quantization.quantize(kept(4, 32, False), tiny_base, in_root, 0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lm_head.qweight": torch.zeros(1), "lm_head.scales": torch.zeros(1)}, "by awq, lm_head too"),
        (
            {"model.layers.1.self_attn.k_proj.weight": torch.zeros(32, 64)},
            r"but model\.layers\.1\.self_attn\.k_proj is",
        ),
    ],
)
def test_a_base_of_which_other_layers_are_quantized_is_refused(in_root, change, sentence):
    from safetensors.torch import load_file, save_file

    base = save(random_model("qwen2"), in_root / "base")
    rewrite(base, "gemm", 4, 32, False)
    tensors = load_file(base / "model.safetensors")
    for name in change:
        stem = name.removesuffix(".weight")
        tensors = {key: each for key, each in tensors.items() if key.rpartition(".")[0] != stem}
    save_file(tensors | change, base / "model.safetensors")
    with pytest.raises(UserError, match=sentence):
        integers.bring(base)
