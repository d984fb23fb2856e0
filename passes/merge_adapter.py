"""Olive pass: merge a PEFT adapter into the quantized checkpoint that it was trained on, and quantize that again.

For runtimes that take no adapters as inputs. The weights that the adapter changes are dequantized, PEFT adds its
change (of LoRA, rsLoRA or DoRA) in fp32, and they are rounded to as many bits, in groups of the same size. A group's
scale and zero point are those, among shrunk ranges of its weights, with the least squared error of the weights; each
weight takes the nearest code. All other weights keep their codes. Rounding anew costs what it cost the first time, and
a change much smaller than a step is lost with it: adapters as inputs are the better choice where there is one.
"""

from pathlib import Path

import torch
from olive.common.quant.nn import QuantLinear
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import HfModelHandler
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam
from olive.passes.pass_config import BasePassConfig
from olive.passes.pytorch.common import inherit_hf_from_hf
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel

from passes.activation_aware.grid import Grid
from press import checkpoints
from press.errors import UserError

SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8)


class MergeAdapter(Pass):
    """Merge the input model's PEFT adapter into its weights; the output is a quantized checkpoint like the input."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {}

    @torch.no_grad()
    def _run_for_config(
        self, model: HfModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> HfModelHandler:
        result = merge(Path(model.model_name_or_path), Path(model.adapter_path))
        result.save_pretrained(output_model_path)
        model.save_metadata(output_model_path)
        return inherit_hf_from_hf(model, output_model_path)


def merge(base: Path, adapter: Path) -> PreTrainedModel:
    """Return the quantized model in `base` with an adapter in its weights.

    :raises UserError: if the adapter changes anything but quantized linear modules
    """
    config = LoraConfig.from_pretrained(adapter)
    if config.modules_to_save:
        raise UserError(f"the adapter replaces {', '.join(config.modules_to_save)}, which cannot be merged")
    plain = PeftModel.from_pretrained(checkpoints.dequantize(checkpoints.load(base), torch.float32), adapter)
    changed = [name for name, module in plain.base_model.model.named_modules() if hasattr(module, "lora_A")]
    merged = plain.merge_and_unload()
    packed = checkpoints.load(base)
    for name in changed:
        module = packed.get_submodule(name)
        if not isinstance(module, QuantLinear):
            raise UserError(f"the adapter changes {name}, which is not a quantized linear module")
        packed.set_submodule(name, requantized(module, merged.get_submodule(name)))
    return packed


def requantized(like: QuantLinear, linear: torch.nn.Linear) -> QuantLinear:
    """Return a linear module with its weights rounded to the bits and the group size of a quantized one."""
    quantizer = like.quantizer
    grid = Grid(quantizer.bits, quantizer.group_size, quantizer.symmetric, like.scales.dtype)
    scales, zero_points = best_parameters(grid, grid.groups(linear.weight.float()))
    result = QuantLinear.from_module(
        linear,
        bits=grid.bits,
        symmetric=grid.symmetric,
        group_size=grid.group_size,
        scales=scales,
        zero_points=zero_points,
    )
    result.scales = scales.to(grid.dtype)
    if like.bias is not None:
        result.bias = linear.bias.to(like.bias.dtype)
    return result


def best_parameters(grid: Grid, groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scales and zero points with the least squared error of each group, among those of shrunk ranges.

    :param groups: fp32 of shape (rows, groups, group size)
    :return: two fp32 tensors of shape (rows, groups)
    """
    best, scales, zero_points = None, None, None
    for shrink in SHRINKS:
        candidate = grid.parameters(groups, shrink)
        error = (grid.values(grid.codes(groups, *candidate), *candidate) - groups).square().sum(-1)
        if best is None:
            best, (scales, zero_points) = error, candidate
        else:
            better = error < best
            best = torch.where(better, error, best)
            scales, zero_points = (
                torch.where(better, new, old) for new, old in zip(candidate, (scales, zero_points), strict=True)
            )
    return scales, zero_points
