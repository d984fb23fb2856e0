"""Olive pass: turn a PEFT LoRA adapter into the `.onnx_adapter` file that a captured graph takes."""

from copy import deepcopy
from pathlib import Path

from olive.hardware.accelerator import AcceleratorSpec
from olive.model import HfModelHandler
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam
from olive.passes.pass_config import BasePassConfig

from press.core import files, paths
from press.model import adapter_inputs, checkpoints

SHAPES = "inputs.json"


class AdapterFile(Pass):
    """Convert the input model's PEFT adapter for a graph with the given layout of LoRA inputs.

    The output is the same model; its adapter folder holds the adapter file and inputs.json, the shapes of
    the file's tensors by name.
    """

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {
            "layout": PassConfigParam(
                type_=str, required=True, description="The graph's lora_inputs.json, by the pass LoRAInputs."
            )
        }

    def _run_for_config(
        self, model: HfModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> HfModelHandler:
        output = Path(output_model_path)
        output.mkdir(parents=True, exist_ok=True)
        adapter, layout, base = Path(model.adapter_path), Path(config.layout), Path(model.model_name_or_path)
        shapes = adapter_inputs.convert(adapter, layout, output / paths.ADAPTER_FILE, base, checkpoints.trusted(model))
        files.write_json(output / SHAPES, shapes)
        handler = deepcopy(model)
        handler.set_resource("adapter_path", output)
        return handler
