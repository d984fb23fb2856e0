"""Olive pass: merge a PEFT adapter into the quantized checkpoint that it was trained on.

The output is a plain checkpoint: the dequantized weights with PEFT's change (of LoRA, rsLoRA or DoRA) added in fp32.
A quantizer has to follow, and one that weighs errors by activations: what an adapter changes in a weight is often a
twentieth of a step, which rounding each weight to the nearest code takes away again.
"""

from pathlib import Path

import torch
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import HfModelHandler
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam
from olive.passes.pass_config import BasePassConfig
from olive.passes.pytorch.common import inherit_hf_from_hf
from peft import PeftModel
from transformers import PreTrainedModel

from press.model import checkpoints


class MergeAdapter(Pass):
    """Merge the input model's PEFT adapter into its dequantized weights."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {}

    def _run_for_config(
        self, model: HfModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> HfModelHandler:
        base, adapter = Path(model.model_name_or_path), Path(model.adapter_path)
        merge(base, adapter, checkpoints.trusted(model)).save_pretrained(output_model_path)
        model.save_metadata(output_model_path)
        return inherit_hf_from_hf(model, output_model_path)


@torch.no_grad()
def merge(base: Path, adapter: Path, trust: bool = False) -> PreTrainedModel:
    """Return the model in `base` with an adapter in its weights, all of them in the types that `base` has."""
    packed = checkpoints.load(base, trust=trust)
    types = {name: parameter.dtype for name, parameter in checkpoints.dequantize(packed).named_parameters()}
    merged = PeftModel.from_pretrained(checkpoints.dequantize(packed, torch.float32), adapter).merge_and_unload()
    for name, parameter in merged.named_parameters():
        parameter.data = parameter.data.to(types[name])
    return merged
