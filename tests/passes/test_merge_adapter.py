"""Merging an adapter gives the function that PEFT computes with it beside the weights."""

import pytest
import torch
from parity import distance, pytorch_logits, random_adapter

from passes import merge_adapter
from press.model import checkpoints

pytestmark = pytest.mark.integration
IDS = list(range(40, 90))
SOME = ["q_proj", "down_proj"]


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
def test_the_merged_checkpoint_computes_what_peft_does(tiny_quantized, tmp_path, options):
    adapter = random_adapter(tiny_quantized, tmp_path / "adapter", 8, SOME, **options)
    merge_adapter.merge(tiny_quantized, adapter).save_pretrained(tmp_path / "merged")
    expected = pytorch_logits(tiny_quantized, adapter, IDS)
    assert distance(pytorch_logits(tmp_path / "merged", None, IDS), expected) < 1e-5
    assert distance(pytorch_logits(tiny_quantized, None, IDS), expected) > 1e-2


def test_only_what_the_adapter_changes_is_another(tiny_quantized, tmp_path):
    adapter = random_adapter(tiny_quantized, tmp_path / "adapter", 8, SOME)
    before = dict(checkpoints.dequantize(checkpoints.load(tiny_quantized)).named_parameters())
    for name, parameter in merge_adapter.merge(tiny_quantized, adapter).named_parameters():
        assert parameter.dtype == before[name].dtype
        assert torch.equal(parameter, before[name]) is not any(f".{part}." in name for part in SOME)
