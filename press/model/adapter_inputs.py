"""The tensors of a PEFT LoRA adapter as a captured graph takes them, and the file that ONNX Runtime reads them from.

It needs neither PyTorch nor PEFT, which take a few seconds to import, but for an adapter by DoRA.
"""

from pathlib import Path
from typing import cast

import numpy as np

from press.core import files
from press.core.errors import UserError
from press.model import checkpoints

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
MAGNITUDE = "lora_magnitude_vector"


def convert(
    adapter: Path, layout: Path, target: Path, base: Path | None = None, trust: bool = False
) -> dict[str, list[int]]:
    """Write an adapter's file for a graph; return the shapes of its tensors by name.

    :param adapter: its folder, in PEFT's format
    :param layout: the graph's lora_inputs.json, by the pass LoRAInputs
    :param base: the checkpoint that the adapter was trained on, which DoRA's scales depend on
    :param trust: whether its own Python code may run
    :raises UserError: if the adapter has parts that the graph has no input for
    """
    from safetensors.numpy import load_file

    config, weights = files.read_json(adapter / CONFIG), load_file(adapter / WEIGHTS)
    tensors = graph_inputs(config, weights, files.read_json(layout), base, trust)
    write(tensors, target)
    return {name: list(tensors[name].shape) for name in sorted(tensors)}


def graph_inputs(
    config: dict, weights: dict[str, np.ndarray], layout: dict, base: Path | None = None, trust: bool = False
) -> dict[str, np.ndarray]:
    """Return the value of each LoRA input that the adapter changes, by name.

    For a projection over modules m of ranks r_m, A is (K, sum r_m) with the A_m^T side by side, and B is
    (sum r_m, N) with alpha / r_m * B_m^T in blocks; in the graph's activation type. DoRA's row scales are (N).

    :param config: the adapter's adapter_config.json
    :param base: the checkpoint that the adapter was trained on, which DoRA's scales depend on
    :param trust: whether its own Python code may run
    :raises UserError: if the adapter has parts that the graph has no input for
    """
    _check_plain(config, layout)
    unused = set(weights)
    scales = row_scales(config, weights, cast(Path, base), trust) if config.get("use_dora") else {}
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


def row_scales(config: dict, weights: dict[str, np.ndarray], base: Path, trust: bool) -> dict[str, np.ndarray]:
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
    import onnxruntime as ort

    # AdapterFormat does not keep the memory of its parameters alive: `arrays` must outlive the export.
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    adapter = ort.AdapterFormat()
    adapter.set_adapter_version(1)
    adapter.set_model_version(1)
    adapter.set_parameters({name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()})
    adapter.export_adapter(str(path))


def _scaling(config: dict) -> float:
    return config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])


def _check_plain(config: dict, layout: dict) -> None:
    unsupported = {
        "use_dora": config.get("use_dora") and not layout.get("row_scales"),
        "bias": config.get("bias", "none") != "none",
        **{name: config.get(name) for name in ("modules_to_save", "rank_pattern", "alpha_pattern")},
    }
    used = [name for name, value in unsupported.items() if value]
    if used:
        raise UserError(f"the adapter uses {', '.join(used)}, which a graph with these inputs cannot express")
