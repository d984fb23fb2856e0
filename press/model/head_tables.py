"""The embedding and lm_head tables of a captured graph, in floats, and in their place in the PyTorch model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from press.model import node_names

if TYPE_CHECKING:
    import onnx_ir as ir
    from transformers import PreTrainedModel

LOOKUPS = ("Gather", "GatherBlockQuantized")
PRODUCTS = ("MatMul", "MatMulNBits")
# Inputs of both quantized operators.
SCALES, ZEROS = 2, 3


class UnreadableError(Exception):
    """The graph's tables are not where, or not what, onnxruntime-genai's builder and this pipeline write."""


@dataclass(frozen=True)
class Tables:
    """What a graph looks tokens up in and what it makes logits with, both fp32 of shape (vocabulary, width)."""

    embedding: np.ndarray
    head: np.ndarray


def read(graph: Path) -> Tables:
    """Dequantize the tables of a captured graph: floats, int4 or int8 blocks, with zero points or without.

    Layouts as in ONNX Runtime's documentation of the operators MatMulNBits and GatherBlockQuantized.

    :raises UnreadableError: if there is no such graph, or it has other nodes there
    """
    import onnx_ir as ir

    try:
        nodes = list(ir.load(graph).graph)
    except FileNotFoundError as error:
        raise UnreadableError(f"{graph} is missing") from error
    lookup, product = _node(nodes, node_names.EMBEDDING, LOOKUPS), _node(nodes, node_names.HEAD, PRODUCTS)
    embedding = _constant(lookup.inputs[0])
    if lookup.op_type == "GatherBlockQuantized":
        embedding = _dequantized(embedding, lookup)
    # A copy of what is only mapped, since PyTorch's tensors may be written to.
    return Tables(*(np.require(table, np.float32, ["C", "W"]) for table in (embedding, weight(product))))


def weight(product: "ir.Node") -> np.ndarray:
    """Return the weight of a MatMul or a MatMulNBits, of shape (columns of the product, width of its input)."""
    stored = _constant(product.inputs[1])
    return _dequantized(stored, product) if product.op_type == "MatMulNBits" else stored.T


def put(model: "PreTrainedModel", tables: Tables) -> None:
    """Give a PyTorch model these tables for its own, in place, in its own dtype; tied ones come apart.

    :raises UnreadableError: if the model's have another shape
    """
    import torch

    for module, table in (
        (cast("torch.nn.Embedding", model.get_input_embeddings()), tables.embedding),
        (cast("torch.nn.Linear", model.get_output_embeddings()), tables.head),
    ):
        own = module.weight
        if tuple(own.shape) != table.shape:
            raise UnreadableError(f"a table of the graph is {table.shape}, but {tuple(own.shape)} in PyTorch")
        module.weight = torch.nn.Parameter(torch.from_numpy(table).to(own.device, own.dtype), requires_grad=False)


def _node(nodes: list["ir.Node"], prefix: str, kinds: tuple[str, ...]) -> "ir.Node":
    matching = [node for node in nodes if (node.name or "").startswith(f"{prefix}/") and node.op_type in kinds]
    if len(matching) != 1:
        raise UnreadableError(f"the graph has {len(matching)} nodes {prefix}/… of {' or '.join(kinds)}, not one")
    return matching[0]


def _constant(value: "ir.Value | None") -> np.ndarray:
    """Return an initializer's values; a Reshape on the way changes only their shape, which nobody here reads."""
    while value is not None and (node := value.producer()) is not None and node.op_type == "Reshape":
        value = node.inputs[0]
    if value is None or value.const_value is None:
        raise UnreadableError(f"{value.name if value else 'a table'} is computed, not stored in the graph")
    return value.const_value.numpy()


def _dequantized(codes: np.ndarray, node: "ir.Node") -> np.ndarray:
    """Return scale * (code - zero point) for all rows.

    :param codes: uint8 with the rows first; two values a byte if they have 4 bits, the low one first
    """
    bits = node.attributes["bits"].value
    block_size = node.attributes["block_size"].value
    if codes.dtype != np.uint8:
        raise UnreadableError(f"{node.name} has codes in {codes.dtype}, not in uint8")
    rows = len(codes)
    steps = _constant(node.inputs[SCALES]).astype(np.float32).reshape(rows, -1, 1)
    weights = _unpacked(codes.reshape(rows, -1), bits).astype(np.float32).reshape(rows, steps.shape[1], block_size)
    weights -= _zeros(node, bits, steps)
    weights *= steps
    return weights.reshape(rows, -1)


def _zeros(node: "ir.Node", bits: int, steps: np.ndarray) -> np.ndarray | int:
    given = node.inputs[ZEROS] if len(node.inputs) > ZEROS else None
    if given is None:
        return 1 << (bits - 1)
    zeros = _constant(given).reshape(len(steps), -1)
    if zeros.dtype == np.uint8:
        zeros = _unpacked(zeros, bits)[:, : steps.shape[1]]
    return zeros.astype(np.float32).reshape(steps.shape)


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Return one value an entry from bytes of shape (rows, bytes)."""
    return packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
