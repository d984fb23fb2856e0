"""What the runtime benchmark knows about a package's graph: the same without LoRA, and the bytes that a token reads."""

import math
import shutil
from pathlib import Path

import onnx
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

BRANCH = ("/lora_A/MatMul", "/lora_B/MatMul", "/lora/Add")
INPUTS = (".lora_A", ".lora_B")
# Operators that read of some inputs only the rows of their tokens, or nothing: an operator's and its inputs' numbers.
LOOKUPS = {"Gather": {0}, "GatherBlockQuantized": {0, 2, 3}, "GroupQueryAttention": {7, 8}, "Reshape": {0}}
BITS: dict[int, int] = {TensorProto.INT4: 4, TensorProto.UINT4: 4}


def model_files(package: Path) -> list[Path]:
    """Return the package's model.onnx and the files that hold its weights."""
    proto = onnx.load(package / "model.onnx", load_external_data=False)
    outside = {ExternalDataInfo(tensor).location for tensor in proto.graph.initializer if uses_external_data(tensor)}
    return [package / name for name in ("model.onnx", *sorted(outside))]


def write_bare(package: Path, folder: Path) -> None:
    """Write the package's model as it was before it got LoRA inputs."""
    proto = onnx.load(package / "model.onnx", load_external_data=False)
    strip_branches(proto.graph)
    onnx.save(proto, folder / "model.onnx")
    for path in package.iterdir():
        if path.is_file() and path.name != "model.onnx":
            shutil.copyfile(path, folder / path.name)


def strip_branches(graph: onnx.GraphProto) -> None:
    """Remove the LoRA branches and their inputs, in place."""
    results = {node.input[0]: node.output[0] for node in graph.node if node.name.endswith(BRANCH[-1])}
    nodes = [node for node in graph.node if not node.name.endswith(BRANCH)]
    for node in nodes:
        node.output[:] = [results.get(name, name) for name in node.output]
    _replace(graph.node, nodes)
    for values in (graph.input, graph.initializer):
        _replace(values, [value for value in values if not value.name.endswith(INPUTS)])


def _replace(field, values: list) -> None:
    del field[:]
    field.extend(values)


def weight_bytes(graph: onnx.GraphProto) -> int:
    """Return the bytes of the initializers that one token reads: tables by one row, all else wholly."""
    whole = set()
    for node in graph.node:
        rows = LOOKUPS.get(node.op_type, set())
        whole |= {name for index, name in enumerate(node.input) if index not in rows}
    return sum(_bytes(tensor, tensor.name in whole) for tensor in graph.initializer)


def cache_bytes(graph: onnx.GraphProto, decoder: dict, tokens: int) -> int:
    """Return the bytes of the keys and values of so many tokens, which the next one reads.

    :param decoder: model.decoder of genai_config.json, since the graph leaves a head's size open
    """
    caches = [value for value in graph.input if value.name.startswith("past_key_values.")]
    width = decoder["num_key_value_heads"] * decoder["head_size"]
    return sum(
        tokens * width * onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).itemsize
        for value in caches
    )


def _bytes(tensor: onnx.TensorProto, whole: bool) -> int:
    bits = BITS.get(tensor.data_type) or 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return math.prod(tensor.dims if whole else tensor.dims[1:]) * bits // 8
