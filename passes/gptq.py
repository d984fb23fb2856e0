"""Olive pass: Olive's GPTQ, which calls each layer in calibration as the model does, and not all of them as the first.

Layers of one model differ in their windows and ropes (gemma3), or even in the width of their heads (gemma4). And an
expert that no calibration token went to is rounded to its weights' nearest codes.
"""

from typing import Any
from unittest import mock

import torch
from olive.common.hf.wrapper import ModelWrapper
from olive.data.config import DataConfig
from olive.model import HfModelHandler
from olive.passes.pass_config import BasePassConfig
from olive.passes.pytorch import gptq, quant_utils
from torch import nn

from passes.activation_aware.calibration import LayerInputs, say_unreached

# The arguments of each layer, batch by batch, by the identity of the layer.
Arguments = dict[int, list[dict]]


class Gptq(gptq.Gptq):
    """Quantize the decoder layers' linears by GPTQ (arXiv 2210.17323) with each layer's own arguments."""

    def _run_for_config(
        self, model: HfModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> HfModelHandler:
        run = quant_utils.run_layer
        names: dict[nn.Module, str] = {}
        unreached: list[str] = []

        def record(model: HfModelHandler, wrapper: ModelWrapper, *others: Any) -> tuple:
            names.update({module: name for name, module in wrapper.model.named_modules()})
            return recorded(model, wrapper, *others)

        def process(module: nn.Linear, **options: Any) -> None:
            info: Any = module.quant_info
            if info.data is None:
                unreached.append(names[module])
                info.data = {"H": torch.eye(module.in_features), "N": 0}
            gptq.Gptq.process_module(module, **options)

        def run_as_recorded(
            layer: nn.Module,
            hidden: list[torch.Tensor],
            _: None = None,
            arguments: Arguments | None = None,
            return_output: bool = False,
        ) -> list[torch.Tensor] | None:
            return run(layer, hidden, None, arguments and arguments[id(layer)], return_output)

        with (
            mock.patch.object(quant_utils, "get_layer_inputs_for_calibration", record),
            mock.patch.object(quant_utils, "run_layer", run_as_recorded),
            mock.patch.object(self, "process_module", process),
        ):
            result = super()._run_for_config(model, config, output_model_path)
        say_unreached(unreached)
        return result


def recorded(
    model: HfModelHandler, wrapper: ModelWrapper, data_config: DataConfig | dict, device: str
) -> tuple[list[torch.Tensor], None, Arguments]:
    """Return what Olive's function of a longer name does, but the arguments of each layer."""
    layers = wrapper.get_layers(return_name=False)
    batches = [batch["input_ids"] for batch in quant_utils.get_calibration_dataset(model, data_config)]
    inputs = LayerInputs.record(wrapper.model, layers, batches, torch.device(device))
    return inputs.hidden, None, {id(layer): inputs.arguments[index] for index, layer in enumerate(layers)}
