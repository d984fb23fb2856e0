"""A captured graph as one whose rows have adapters of their own, made in memory: the package's file stays as it is.

An adapter's A and B are inputs of two dimensions, the same for all rows of a batch. Here they have a dimension of
adapters before them, and each adapter has as many slots for rows: rows are gathered into slots, multiplied there, and
what comes of it is gathered back. Of the logits, those of the last positions alone are computed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from press.model import packaged

LORA_A, LORA_B, SCALE = ".lora_A", ".lora_B", ".row_scale"
# Inputs: the row of each adapter's slots, 1 for slots whose row has the adapter and 0 for others, and each row's slot
# among the dimensions of x A B.
SLOTS, WANTED, PLACES = "rows/slots", "rows/wanted", "rows/places"
# Positions whose logits are computed: of one alone, other kernels would compute them than onnxruntime-genai's do.
LAST = 2
NEEDED = {"filename", "num_hidden_layers", "num_key_value_heads", "head_size"}
ATTENTION = "GroupQueryAttention"
# Types of what a graph remembers and of its adapters that NumPy has.
TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class Names:
    """What the inputs and outputs of a graph are called."""

    tokens: str
    mask: str
    positions: str
    logits: str
    # What is remembered, and by what it is replaced.
    past: tuple[str, ...]
    present: tuple[str, ...]
    # Of a token in each of them: heads, and values of a head.
    heads: int
    size: int


def names(config: Mapping[str, Any]) -> Names:
    """Return a model's names, as its genai_config.json has them."""
    decoder = config["model"]["decoder"]
    inputs, outputs = decoder.get("inputs", {}), decoder.get("outputs", {})

    def of_layers(kinds: Mapping[str, str], key: str, value: str, default: str) -> tuple[str, ...]:
        patterns = [kinds.get(key, f"{default}.%d.key"), kinds.get(value, f"{default}.%d.value")]
        numbers = range(decoder["num_hidden_layers"])
        return tuple(pattern.replace("%d", str(number)) for number in numbers for pattern in patterns)

    return Names(
        inputs.get("input_ids", "input_ids"),
        inputs.get("attention_mask", "attention_mask"),
        inputs.get("position_ids", "position_ids"),
        outputs.get("logits", "logits"),
        of_layers(inputs, "past_key_names", "past_value_names", "past_key_values"),
        of_layers(outputs, "present_key_names", "present_value_names", "present"),
        decoder["num_key_value_heads"],
        decoder["head_size"],
    )


def unfit(config: Mapping[str, Any], folder: Path) -> str | None:
    """Return why a model's rows cannot have adapters and lengths of their own, or None if they can."""
    model = config["model"]
    decoder = model.get("decoder", {})
    if decoder.get("session_options", {}).get("provider_options"):
        return "it is not for the CPU"
    if "pipeline" in decoder or not decoder.keys() >= NEEDED:
        return "it is not one graph"
    if "sliding_window" in decoder or packaged.STATES & decoder.get("inputs", {}).keys():
        return "it does not remember all of a text by its tokens"
    return _unfit_graph(onnx.load(folder / decoder["filename"], load_external_data=False).graph, names(config))


def _unfit_graph(graph: onnx.GraphProto, known: Names) -> str | None:
    values = {each.name: each.type.tensor_type for each in graph.input}
    own = {known.tokens, known.mask, known.positions, *known.past}
    adapters = [name for name in values if name.endswith((LORA_A, LORA_B, SCALE))]
    if missing := [name for name in (known.tokens, known.mask, *known.past) if name not in values]:
        return f"its graph has no input {missing[0]}"
    if more := [name for name in values if name not in own and name not in adapters]:
        return f"its graph has an input {more[0]}"
    if any(values[name].elem_type not in TYPES for name in (*known.past, *adapters)):
        return "its values are of a type that NumPy has not"
    remembering = {name for node in graph.node if node.op_type == ATTENTION for name in node.input}
    if not remembering.issuperset(known.past):
        return f"its attention is not {ATTENTION}"
    return None


@dataclass(frozen=True)
class Projection:
    """A product of the graph that adapters may change."""

    name: str
    width_in: int
    width_out: int
    dtype: np.dtype
    scaled: bool


def projections(graph: onnx.GraphProto) -> list[Projection]:
    """Return the products of a graph that adapters may change."""
    inputs = {each.name: each.type.tensor_type for each in graph.input}

    def found() -> Iterator[Projection]:
        for name, value in inputs.items():
            if name.endswith(LORA_A):
                own = name.removesuffix(LORA_A)
                width_out = inputs[own + LORA_B].shape.dim[1].dim_value
                dtype = helper.tensor_dtype_to_np_dtype(value.elem_type)
                yield Projection(own, value.shape.dim[0].dim_value, width_out, dtype, own + SCALE in inputs)

    return list(found())


def edit(graph: onnx.GraphProto, known: Names) -> None:
    """Let the rows of a graph have adapters of their own, in place."""
    for each in graph.input:
        kind = each.type.tensor_type
        sizes = [size.dim_param or size.dim_value for size in kind.shape.dim]
        # A dimension more than what they are multiplied with has: a product with one adapter's slots would be computed
        # as one with more rows, by other kernels.
        if each.name.endswith(LORA_A):
            sizes = [1, "adapters", 1, *sizes]
        elif each.name.endswith(LORA_B):
            sizes = [1, 1, "adapters", 1, *sizes]
        elif each.name.endswith(SCALE):
            sizes = ["batch_size", 1, f"{each.name}.columns"]
        each.CopyFrom(helper.make_tensor_value_info(each.name, kind.elem_type, sizes))
    # All of them are given, so that their defaults would only be warned of.
    for number in reversed(range(len(graph.initializer))):
        if graph.initializer[number].name.endswith((LORA_A, LORA_B, SCALE)):
            del graph.initializer[number]
    _part_by_adapters(graph)
    _keep_last(graph, known.logits)


def _part_by_adapters(graph: onnx.GraphProto) -> None:
    """Let the products with adapters be those of slots."""
    kinds = {each.type.tensor_type.elem_type for each in graph.input if each.name.endswith(LORA_A)}
    if not kinds:
        return
    graph.input.append(helper.make_tensor_value_info(SLOTS, TensorProto.INT64, ["adapters", "slots"]))
    graph.input.append(helper.make_tensor_value_info(WANTED, kinds.pop(), ["adapters", "slots", 1, 1]))
    graph.input.append(helper.make_tensor_value_info(PLACES, TensorProto.INT64, ["batch_size", 4]))
    nodes: list[onnx.NodeProto] = []
    parted = set()
    for node in graph.node:
        side = node.input[1] if node.op_type == "MatMul" else ""
        if not side.endswith((LORA_A, LORA_B)):
            nodes.append(node)
            continue
        source, result = node.input[0], node.output[0]
        slots, in_slots = f"{source}/slots", f"{result}/slots"
        node.output[0] = in_slots
        if side.endswith(LORA_A):
            if source not in parted:
                parted.add(source)
                nodes.append(helper.make_node("Gather", [source, SLOTS], [slots], slots, axis=0))
            node.input[0] = slots
            nodes += [node, helper.make_node("Mul", [in_slots, WANTED], [result], f"{result}/wanted")]
        else:
            nodes += [node, helper.make_node("GatherND", [in_slots, PLACES], [result], f"{result}/places")]
    graph.ClearField("node")
    graph.node.extend(nodes)
    # The shapes of what lies between are others now.
    graph.ClearField("value_info")


def _keep_last(graph: onnx.GraphProto, logits: str) -> None:
    """Let the head have the last positions alone, where it is the product that makes the logits."""
    place, head = next((place, node) for place, node in enumerate(graph.node) if logits in node.output)
    if not head.op_type.startswith("MatMul"):
        return
    for name, value in (("first", -LAST), ("end", 2**31), ("axis", 1)):
        graph.initializer.append(helper.make_tensor(f"rows/{name}", TensorProto.INT64, [1], [value]))
    last = f"{head.input[0]}/last"
    node = helper.make_node("Slice", [head.input[0], "rows/first", "rows/end", "rows/axis"], [last], "rows/Slice")
    graph.node.insert(place, node)
    head.input[0] = last
