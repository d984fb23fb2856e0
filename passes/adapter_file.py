"""Olive pass: turn a PEFT LoRA adapter into the `.onnx_adapter` file that a captured graph takes."""

from copy import deepcopy
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime as ort
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import HfModelHandler
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam
from olive.passes.pass_config import BasePassConfig
from peft import LoraConfig
from safetensors.numpy import load_file

from press.core import files
from press.core.errors import UserError
from press.model import checkpoints

ADAPTER = "adapter.onnx_adapter"
SHAPES = "inputs.json"
PREFIX = "base_model.model."
MAGNITUDE = "lora_magnitude_vector"


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
        folder = Path(model.adapter_path)
        tensors = graph_inputs(
            cast(LoraConfig, LoraConfig.from_pretrained(str(folder))),
            load_file(folder / "adapter_model.safetensors"),
            files.read_json(Path(config.layout)),
            Path(model.model_name_or_path),
            checkpoints.trusted(model),
        )
        output = Path(output_model_path)
        output.mkdir(parents=True, exist_ok=True)
        write(tensors, output / ADAPTER)
        files.write_json(output / SHAPES, {name: list(tensors[name].shape) for name in sorted(tensors)})
        result = deepcopy(model)
        result.set_resource("adapter_path", output)
        return result


def graph_inputs(
    config: LoraConfig, weights: dict[str, np.ndarray], layout: dict, base: Path | None = None, trust: bool = False
) -> dict[str, np.ndarray]:
    """Return the value of each LoRA input that the adapter changes, by name.

    For a projection over modules m of ranks r_m, A is (K, sum r_m) with the A_m^T side by side, and B is
    (sum r_m, N) with alpha / r_m * B_m^T in blocks; in the graph's activation type. DoRA's row scales are (N).

    :param base: the checkpoint that the adapter was trained on, which DoRA's scales depend on
    :param trust: whether its own Python code may run
    :raises UserError: if the adapter has parts that the graph has no input for
    """
    _check_plain(config, layout)
    unused = set(weights)
    scales = row_scales(config, weights, cast(Path, base), trust) if config.use_dora else {}
    inputs = {}
    for projection in layout["projections"]:
        left, right = [], []
        rescaled = np.ones(projection["width_out"], np.float32)
        for segment in projection["segments"]:
            names = [f"{PREFIX}{segment['module']}.lora_{side}.weight" for side in "AB"]
            if names[0] not in weights:
                continue
            unused -= {*names, f"{PREFIX}{segment['module']}.{MAGNITUDE}"}
            down, up = (weights[name].astype(np.float32) for name in names)
            block = np.zeros((down.shape[0], projection["width_out"]), np.float32)
            rows = slice(segment["first_row"], segment["first_row"] + segment["rows"])
            columns = slice(segment["column"], segment["column"] + segment["rows"])
            block[:, columns] = up[rows].T * _scaling(config)
            if scales:
                rescaled[columns] = scales[segment["module"]][rows]
            left.append(down.T)
            right.append(block)
        if left:
            inputs[f"{projection['name']}.lora_A"] = np.concatenate(left, axis=1).astype(layout["dtype"])
            inputs[f"{projection['name']}.lora_B"] = np.concatenate(right, axis=0).astype(layout["dtype"])
            if scales:
                inputs[f"{projection['name']}.row_scale"] = rescaled.astype(layout["dtype"])
    if unused:
        raise UserError(f"the adapter changes {min(unused)}, for which the graph has no LoRA input")
    return inputs


def row_scales(config: LoraConfig, weights: dict[str, np.ndarray], base: Path, trust: bool) -> dict[str, np.ndarray]:
    """Return what DoRA scales the output rows of each module by: magnitude / |W + scaling B A|, row by row.

    :return: by module, fp32 of shape (rows)
    """
    model = checkpoints.dequantize(checkpoints.load(base, trust=trust))
    scales = {}
    for name, magnitude in weights.items():
        if name.endswith(f".{MAGNITUDE}"):
            module = name.removeprefix(PREFIX).removesuffix(f".{MAGNITUDE}")
            down, up = (weights[f"{PREFIX}{module}.lora_{side}.weight"].astype(np.float32) for side in "AB")
            weight = model.get_parameter(f"{module}.weight").float().numpy()
            scales[module] = magnitude / np.linalg.norm(weight + _scaling(config) * (up @ down), axis=1)
    return scales


def write(tensors: dict[str, np.ndarray], path: Path) -> None:
    """Write tensors as an ONNX Runtime adapter file, in the order of their names."""
    # AdapterFormat does not keep the memory of its parameters alive: `arrays` must outlive the export.
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    adapter = ort.AdapterFormat()
    adapter.set_adapter_version(1)
    adapter.set_model_version(1)
    adapter.set_parameters({name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()})
    adapter.export_adapter(str(path))


def _scaling(config: LoraConfig) -> float:
    return config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)


def _check_plain(config: LoraConfig, layout: dict) -> None:
    unsupported = {
        "use_dora": config.use_dora and not layout.get("row_scales"),
        "bias": config.bias != "none",
        "modules_to_save": config.modules_to_save,
        "rank_pattern": config.rank_pattern,
        "alpha_pattern": config.alpha_pattern,
    }
    used = [name for name, value in unsupported.items() if value]
    if used:
        raise UserError(f"the adapter uses {', '.join(used)}, which a graph with these inputs cannot express")
