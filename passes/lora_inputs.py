"""Olive pass: give every projection of a captured graph an optional LoRA branch.

A projection y = x W becomes y = x W + (x A) B, where A (K, R) and B (R, N) are graph inputs of any rank R
with rank-0 initializers as their defaults (LoRA, arXiv 2106.09685). onnxruntime-genai feeds them from an
adapter file; without one, an empty product adds zero, so that the graph computes what it did before. A
projection that packs several modules, such as q, k and v, gets one branch with the modules' A side by side
and their B in blocks.

For DoRA (arXiv 2402.09353) there can be a third input, s of shape (N) or (1): y = s (x W + (x A) B), by default 1.
A bias, which the builder adds behind the projection, is not scaled.
"""

import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam
from olive.passes.pass_config import BasePassConfig
from onnx import TensorProto, helper

from press.core import files, paths
from press.core.errors import UserError
from press.model import checkpoints, node_names

# What checkpoints call the blocks and modules that the graph's names stand for; the first is the usual name.
BLOCKS = {
    "attn": ("self_attn",),
    "mlp": ("mlp", "feed_forward", "shared_mlp", "mlp.shared_expert"),
    "conv": ("conv",),
    "linear_attn": ("linear_attn",),
    "mamba": ("mamba",),
}
ALIASES = {
    # Gemma 4's global layers take the keys for values, too.
    "v_proj": ("k_proj",),
    "o_proj": ("out_proj", "dense"),
    "gate_proj": ("w1",),
    "up_proj": ("w3",),
    "down_proj": ("w2", "output_linear"),
    "gate_up_proj": ("input_linear",),
    **{f"{part}_proj": (f"in_proj_{part}",) for part in ("qkv", "z", "b", "a")},
}
PACKED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


@dataclass(frozen=True)
class Segment:
    """Some output rows of a checkpoint's module, and the projection's columns from `column` on that they make."""

    module: str
    first_row: int
    rows: int
    column: int


@dataclass(frozen=True)
class Projection:
    """A MatMul of the graph that an adapter may change.

    Its inputs are NAME.lora_A, NAME.lora_B and, if the layout has row_scales, NAME.row_scale.
    """

    name: str
    width_in: int
    width_out: int
    segments: tuple[Segment, ...]


class LoRAInputs(Pass):
    """Add optional LoRA inputs to all attention and MLP projections of a graph by onnxruntime-genai's builder."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {
            "checkpoint": PassConfigParam(
                type_=str, required=True, description="The checkpoint that the graph was built from."
            ),
            "row_scales": PassConfigParam(
                type_=bool, default_value=False, description="Whether each projection can be scaled, as DoRA's are."
            ),
        }

    def _run_for_config(
        self, model: ONNXModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> ONNXModelHandler:
        source = Path(model.model_path)
        output = Path(output_model_path)
        output.mkdir(parents=True, exist_ok=True)
        proto = onnx.load(source, load_external_data=False)
        dtype = activation_type(proto.graph)
        rows = checkpoints.module_rows(Path(config.checkpoint))
        projections = add_branches(proto.graph, rows, dtype, row_scales=config.row_scales)
        onnx.save(proto, output / source.name)
        for data in source.parent.glob(f"{source.name}.*"):
            shutil.copyfile(data, output / data.name)
        layout = {
            "dtype": helper.tensor_dtype_to_np_dtype(dtype).name,
            "row_scales": config.row_scales,
            "projections": [asdict(projection) for projection in projections],
        }
        files.write_json(output / paths.LAYOUT, layout)
        return ONNXModelHandler(
            output, onnx_file_name=source.name, model_attributes={"additional_files": [str(output / paths.LAYOUT)]}
        )


def add_branches(
    graph: onnx.GraphProto, module_rows: dict[str, int], dtype: int, *, row_scales: bool = False
) -> list[Projection]:
    """Insert a branch behind every projection, in place, and return where adapters attach.

    :param module_rows: output rows of every linear module of the checkpoint
    :param dtype: the activations' ONNX type
    :param row_scales: whether to scale the projection's output, too
    :raises UserError: if a projection cannot be traced to the checkpoint's modules
    """
    shapes = weight_shapes(graph)
    projections = []
    nodes = []
    for node in graph.node:
        nodes.append(node)
        match = node_names.PROJECTION.fullmatch(node.name)
        if match and node.op_type.startswith("MatMul"):
            projection = trace(node, match, shapes, module_rows)
            projections.append(projection)
            nodes += _branch(node, projection, row_scales)
            _add_inputs(graph, projection, dtype, row_scales)
    if not projections:
        raise UserError("the graph has no attention or MLP projection that an adapter could attach to")
    del graph.node[:]
    graph.node.extend(nodes)
    return projections


def weight_shapes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Map the name of each constant of a graph to its shape, also of those that are dequantized and transposed."""
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("DequantizeLinear", "Transpose") and node.input[0] in shapes:
            shape = shapes[node.input[0]]
            shapes[node.output[0]] = shape[::-1] if node.op_type == "Transpose" else shape
    return shapes


def trace(
    node: onnx.NodeProto, match: re.Match, shapes: dict[str, list[int]], module_rows: dict[str, int]
) -> Projection:
    """Find the checkpoint's modules whose rows are a projection's columns."""
    layer, block, name = match.groups()
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    width_in, width_out = (attributes["K"], attributes["N"]) if "K" in attributes else shapes[node.input[1]]
    prefixes = [f"model.layers.{layer}.{each}" for each in BLOCKS[block]]
    segments = _segments(prefixes, name, width_out, module_rows)
    if sum(segment.rows for segment in segments) != width_out:
        raise UserError(
            f"the graph's projection {node.name} has {width_out} columns, which are not the rows of the checkpoint's "
            f"modules below {prefixes[0]}: this architecture is not supported"
        )
    return Projection(f"model.layers.{layer}.{block}.{name}", width_in, width_out, segments)


def activation_type(graph: onnx.GraphProto) -> int:
    """Return the ONNX type of the graph's activations, which is that of its floating-point output."""
    types = {output.name: output.type.tensor_type.elem_type for output in graph.output}
    return types.get("logits", TensorProto.FLOAT)


def _segments(prefixes: list[str], name: str, width_out: int, module_rows: dict[str, int]) -> tuple[Segment, ...]:
    module = _module(prefixes, name, module_rows)
    if module:
        return (Segment(module, 0, module_rows[module], 0),)
    segments, column = [], 0
    for part in PACKED.get(name, ()):
        module = _module(prefixes, part, module_rows)
        if module:
            segments.append(Segment(module, 0, module_rows[module], column))
            column += module_rows[module]
    for packed, parts in PACKED.items():
        # Only halves can be told apart by their width: gate and up, which the builder unpacks.
        module = _module(prefixes, packed, module_rows) if name in parts else None
        if module and module_rows[module] == len(parts) * width_out:
            return (Segment(module, parts.index(name) * width_out, width_out, 0),)
    return tuple(segments)


def _module(prefixes: list[str], name: str, module_rows: dict[str, int]) -> str | None:
    """Return the checkpoint's name of a module, if it has it."""
    candidates = [f"{prefix}.{each}" for prefix in prefixes for each in (name, *ALIASES.get(name, ()))]
    return next((candidate for candidate in candidates if candidate in module_rows), None)


def _branch(node: onnx.NodeProto, projection: Projection, row_scales: bool) -> list[onnx.NodeProto]:
    result, name, inputs = node.output[0], node.name, projection.name
    base, inner, delta = f"{result}/base", f"{result}/lora_A", f"{result}/lora_B"
    total = f"{result}/lora" if row_scales else result
    node.output[0] = base
    nodes = [
        helper.make_node("MatMul", [node.input[0], f"{inputs}.lora_A"], [inner], f"{name}/lora_A/MatMul"),
        helper.make_node("MatMul", [inner, f"{inputs}.lora_B"], [delta], f"{name}/lora_B/MatMul"),
        helper.make_node("Add", [base, delta], [total], f"{name}/lora/Add"),
    ]
    if row_scales:
        nodes.append(helper.make_node("Mul", [total, f"{inputs}.row_scale"], [result], f"{name}/row_scale/Mul"))
    return nodes


def _add_inputs(graph: onnx.GraphProto, projection: Projection, dtype: int, row_scales: bool) -> None:
    rank = f"{projection.name}.rank"
    for name, shape in (("lora_A", [projection.width_in, rank]), ("lora_B", [rank, projection.width_out])):
        _add_input(
            graph, f"{projection.name}.{name}", dtype, shape, [0 if isinstance(size, str) else size for size in shape]
        )
    if row_scales:
        _add_input(graph, f"{projection.name}.row_scale", dtype, [f"{projection.name}.scales"], [1])


def _add_input(graph: onnx.GraphProto, name: str, dtype: int, shape: list[int | str], default: list[int]) -> None:
    """Add an input whose default is ones, if it has any values."""
    ones = np.ones(default, helper.tensor_dtype_to_np_dtype(dtype))
    graph.input.append(helper.make_tensor_value_info(name, dtype, shape))
    graph.initializer.append(helper.make_tensor(name, dtype, default, ones.tobytes(), raw=True))
