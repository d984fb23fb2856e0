"""Merging an adapter into a quantized checkpoint: what it changes, what it leaves, and how near it comes."""

from pathlib import Path

import pytest
import torch
from olive.common.quant.nn import QuantLinear
from parity import distance, pytorch_logits, random_adapter
from peft import LoraConfig, PeftModel, get_peft_model

from passes import merge_adapter
from passes.activation_aware.grid import Grid
from press import checkpoints
from press.errors import UserError

IDS = list(range(40, 90))
SOME = ["q_proj", "down_proj"]


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
def test_only_what_the_adapter_changes_is_rounded_anew_to_half_a_step(tiny_quantized, tmp_path, options):
    adapter = random_adapter(tiny_quantized, tmp_path / "adapter", 8, SOME, **options)
    merged = merge_adapter.merge(tiny_quantized, adapter)
    before = checkpoints.load(tiny_quantized)
    expected = merged_in_floats(tiny_quantized, adapter)
    for name, module in merged.named_modules():
        if isinstance(module, QuantLinear):
            old = before.get_submodule(name)
            assert (module.qweight.shape, module.scales.shape) == (old.qweight.shape, old.scales.shape)
            changed = name.rpartition(".")[2] in SOME
            assert torch.equal(module.qweight, old.qweight) is not changed
            weight = module.unpack_and_dequantize(module.qweight, module.scales, module.qzeros)
            off = (weight - expected[name]).reshape(*module.scales.shape, -1).square().mean(-1).sqrt()
            # Evenly spread errors of half a step at most are a step / sqrt(12) in the mean.
            assert off.mean() < (0.4 * module.scales.mean() if changed else 1e-6)


def test_the_saved_checkpoint_answers_like_the_merged_model_and_near_the_adapter(tiny_quantized, in_root, tmp_path):
    adapter = random_adapter(tiny_quantized, tmp_path / "adapter", 8, SOME)
    merged = merge_adapter.merge(tiny_quantized, adapter)
    merged.save_pretrained(tmp_path / "merged")
    logits = pytorch_logits(tmp_path / "merged", None, IDS)
    with torch.inference_mode():
        assert distance(logits, merged(input_ids=torch.tensor([IDS])).logits[0].numpy()) < 1e-5
    with_adapter, bare = (pytorch_logits(tiny_quantized, each, IDS) for each in (adapter, None))
    assert distance(logits, with_adapter) < 0.5 * distance(bare, with_adapter)


def merged_in_floats(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = PeftModel.from_pretrained(checkpoints.dequantize(checkpoints.load(base)), adapter).merge_and_unload()
    return {name.removesuffix(".weight"): value.detach() for name, value in model.named_parameters()}


@pytest.mark.parametrize(("bits", "symmetric"), [(4, False), (4, True), (8, False)])
def test_shrunk_ranges_are_taken_where_they_are_nearer(bits, symmetric):
    grid = Grid(bits, 32, symmetric, torch.float32)
    groups = torch.randn(64, 4, 32, generator=torch.Generator().manual_seed(0))

    def error(scales: torch.Tensor, zero_points: torch.Tensor) -> torch.Tensor:
        return (grid.values(grid.codes(groups, scales, zero_points), scales, zero_points) - groups).square().sum(-1)

    best = error(*merge_adapter.best_parameters(grid, groups))
    candidates = torch.stack([error(*grid.parameters(groups, shrink)) for shrink in merge_adapter.SHRINKS])
    assert torch.equal(best, candidates.amin(0))


def test_an_adapter_of_what_is_not_quantized_is_refused(tiny_quantized, tmp_path):
    model = checkpoints.dequantize(checkpoints.load(tiny_quantized))
    get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"])).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="changes lm_head, which is not a quantized linear module"):
        merge_adapter.merge(tiny_quantized, tmp_path)
