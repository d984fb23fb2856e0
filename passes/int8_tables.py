"""Olive pass: put an int8 embedding and lm_head into a graph by onnxruntime-genai's builder that has them in floats.

Where the two are tied, one table serves both: stored once, it is the B of MatMulNBits, (vocabulary, blocks,
block) in uint8, and as such the data of GatherBlockQuantized, which takes any rank. So the table is never
reshaped, which ONNX Runtime would do by a copy of it in memory when it loads the graph; the row that is
gathered is, and the scales, a 32nd of the table's values. The builder's own way, `last_matmul:int8` with shared
embeddings, gives an invalid graph in onnxruntime-genai 0.18.
"""

from pathlib import Path
from typing import cast

import numpy as np
import onnx_ir as ir
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam
from olive.passes.pass_config import BasePassConfig

from press.core.errors import UserError
from press.model import node_names

BITS = 8
ZERO = 1 << (BITS - 1)  # both operators' zero point where no other is given


class Int8Tables(Pass):
    """Quantize the embedding and the lm_head of a graph to symmetric int8 blocks; one table if they are tied."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {
            "block_size": PassConfigParam(type_=int, default_value=32, description="Weights that share a scale."),
            "accuracy_level": PassConfigParam(
                type_=int, default_value=4, description="Least accuracy of the head's activations: 1 fp32 to 4 int8."
            ),
        }

    def _run_for_config(
        self, model: ONNXModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> ONNXModelHandler:
        source = Path(model.model_path)
        output = Path(output_model_path)
        output.mkdir(parents=True, exist_ok=True)
        proto = ir.load(source)
        replace_tables(proto.graph, config.block_size, config.accuracy_level)
        ir.save(proto, output / source.name, external_data=f"{source.name}.data")
        return ONNXModelHandler(output, onnx_file_name=source.name)


def replace_tables(graph: ir.Graph, block_size: int, accuracy_level: int) -> None:
    """Replace the embedding's Gather and the head's MatMul, in place.

    :raises UserError: if they are not both in floats, or the block size does not divide their width
    """
    nodes = {node.name: node for node in graph}
    gather, matmul = nodes.get(node_names.EMBEDDING_IN_FLOATS), nodes.get(node_names.HEAD_IN_FLOATS)
    if gather is None or matmul is None:
        raise UserError("the graph has no embedding and lm_head in floats that could become int8 tables")
    embedding, head = _weight(gather, 0), _weight(matmul, 1).T
    tied = np.array_equal(embedding, head)
    codes, scales = _add_table(graph, "lm_head", head, block_size)
    _replace(graph, matmul, _product(_input(matmul, 0), codes, scales, head.shape, block_size, accuracy_level))
    if not tied:
        codes, scales = _add_table(graph, "model.embed_tokens", embedding, block_size)
    _replace(graph, gather, *_lookup(graph, _input(gather, 1), codes, scales, embedding.shape, block_size))


def quantize(weight: np.ndarray, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Round each block of a row to 255 steps that lie evenly around zero.

    :param weight: floats of shape (rows, width)
    :return: codes, uint8 of shape (rows, blocks, block size), and scales, of the weight's type and of shape
        (rows, blocks): the weight is about scale * (code - 128)
    :raises UserError: if the block size does not divide the width
    """
    rows, width = weight.shape
    if width % block_size:
        fitting = [size for size in (16, 32, 64, 128, 256) if width % size == 0]
        raise UserError(
            f"the block size of embedding and lm_head is {block_size}, but they are {width} wide: choose one that "
            f"divides it, {' or '.join(map(str, fitting)) or 'none does'}"
        )
    blocks = weight.reshape(rows, width // block_size, block_size)
    largest = np.abs(blocks).max(axis=-1, keepdims=True).astype(np.float32)
    scales = (largest / (ZERO - 1)).astype(weight.dtype)
    steps = np.divide(blocks, scales, out=np.zeros_like(blocks), where=scales != 0)
    # In place: a large table's steps are 400 MB.
    np.clip(np.rint(steps, out=steps), 1 - ZERO, ZERO - 1, out=steps)
    steps += ZERO
    return steps.astype(np.uint8), scales[..., 0]


def _input(node: ir.Node, index: int) -> ir.Value:
    """Return an input that the node's operator cannot do without."""
    return cast(ir.Value, node.inputs[index])


def _weight(node: ir.Node, index: int) -> np.ndarray:
    return cast(ir.TensorProtocol, _input(node, index).const_value).numpy()


def _add_table(graph: ir.Graph, name: str, weight: np.ndarray, block_size: int) -> tuple[ir.Value, ir.Value]:
    codes, scales = quantize(weight, block_size)
    return _constant(graph, f"{name}.weight_Q8", codes), _constant(graph, f"{name}.weight_scales", scales)


def _constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    initializer = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(initializer)
    return initializer


def _product(
    inputs: ir.Value, codes: ir.Value, scales: ir.Value, shape: tuple[int, int], block_size: int, accuracy_level: int
) -> ir.Node:
    rows, width = shape
    attributes = {"K": width, "N": rows, "bits": BITS, "block_size": block_size, "accuracy_level": accuracy_level}
    return ir.node(
        "MatMulNBits", [inputs, codes, scales], attributes, domain="com.microsoft", name=node_names.HEAD_IN_BLOCKS
    )


def _lookup(
    graph: ir.Graph, ids: ir.Value, codes: ir.Value, scales: ir.Value, shape: tuple[int, int], block_size: int
) -> list[ir.Node]:
    """Return the nodes from ids (batch, tokens) to rows (batch, tokens, width)."""
    rows, width = shape
    scales_shape = _constant(graph, "model.embed_tokens.scales_shape", np.array([rows, width // block_size, 1]))
    row_shape = _constant(graph, "model.embed_tokens.row_shape", np.array([0, 0, width]))
    name = node_names.EMBEDDING
    column = ir.node("Reshape", [scales, scales_shape], name=f"{name}/scales/Reshape")
    blocks = ir.node(
        "GatherBlockQuantized",
        [codes, ids, column.outputs[0]],
        {"bits": BITS, "block_size": block_size, "gather_axis": 0, "quantize_axis": 2},
        domain="com.microsoft",
        name=f"{name}/GatherBlockQuantized",
    )
    return [column, blocks, ir.node("Reshape", [blocks.outputs[0], row_shape], name=f"{name}/Reshape")]


def _replace(graph: ir.Graph, old: ir.Node, *new: ir.Node) -> None:
    weights = [value for value in old.inputs if value is not None and value.is_initializer()]
    ir.convenience.replace_nodes_and_values(graph, old, [old], new, old.outputs, new[-1].outputs)
    for weight in weights:
        graph.initializers.pop(cast(str, weight.name))
