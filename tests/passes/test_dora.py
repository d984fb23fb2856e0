"""DoRA adapters as inputs of a graph, against PyTorch + PEFT; the same graph serves LoRA's and the bare model."""

from pathlib import Path

import pytest
from architectures import random_model, save
from conftest import ROOT
from parity import TOLERANCE, captured_to, converted, distance, pytorch_logits, random_adapter

from press.core import files
from press.model import quantization
from press.model.runtime import Runtime
from press.params import settings

pytestmark = pytest.mark.integration
IDS = list(range(40, 90))
PARTS = {
    "llama with biases": ["q_proj", "v_proj", "gate_proj", "down_proj"],  # a bias is not scaled
    "phi3": ["qkv_proj", "gate_up_proj"],  # the graph has gate and up apart
}


def quantized(folder: Path, name: str) -> Path:
    base, building = save(random_model(name), folder / "base"), folder / "quantizing"
    building.mkdir()
    params = settings.load(ROOT / "params.yaml").quantize.model_copy(update={"algorithm": "rtn"})
    return quantization.quantize(params, base, building, 0)


@pytest.mark.parametrize("name", PARTS)
def test_one_graph_serves_dora_lora_and_the_bare_model(in_root, name):
    checkpoint = quantized(in_root, name)
    captured = captured_to(in_root, checkpoint, adapters="dora")
    layout = captured / "lora_inputs.json"
    options = {"dora": {"use_dora": True}, "rsdora": {"use_dora": True, "use_rslora": True}, "lora": {}}
    adapters = {
        key: random_adapter(checkpoint, in_root / key, 8, PARTS[name], **chosen) for key, chosen in options.items()
    }
    paths = {
        key: converted(path, layout, in_root / f"{key}.onnx_adapter", checkpoint) for key, path in adapters.items()
    }
    runtime = Runtime(captured, paths, threads=2)
    for key, adapter in {None: None, **adapters}.items():
        assert distance(runtime.logits(IDS, key), pytorch_logits(checkpoint, adapter, IDS)) < TOLERANCE
    assert distance(runtime.logits(IDS, "dora"), runtime.logits(IDS, "lora")) > 100 * TOLERANCE
    assert files.read_json(layout)["row_scales"] is True
