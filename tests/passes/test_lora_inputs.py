"""How a graph's projections are traced to a checkpoint's modules."""

import onnx
import pytest
from onnx import TensorProto, helper

from passes import lora_inputs
from passes.lora_inputs import Segment
from press.core.errors import UserError

pytestmark = pytest.mark.integration
LAYER = "model.layers.0"


def graph_of(block: str, projection: str, width_in: int, width_out: int) -> onnx.GraphProto:
    """A graph with one quantized projection, named as the builder names it."""
    name = f"/model/layers.0/{block}/{projection}/MatMulNBits"
    node = helper.make_node("MatMulNBits", ["x", "codes", "scales"], ["y"], name, K=width_in, N=width_out)
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT16, ["tokens", width_out])
    return helper.make_graph([node, helper.make_node("Identity", ["y"], ["logits"])], "graph", [], [output])


@pytest.mark.parametrize(
    ("block", "projection", "width_out", "module_rows", "segments"),
    [
        ("mlp", "down_proj", 8, {"mlp.down_proj": 8}, [Segment("mlp.down_proj", 0, 8, 0)]),
        (
            "attn",
            "qkv_proj",
            16,
            {"self_attn.q_proj": 8, "self_attn.k_proj": 4, "self_attn.v_proj": 4},
            [
                Segment("self_attn.q_proj", 0, 8, 0),
                Segment("self_attn.k_proj", 0, 4, 8),
                Segment("self_attn.v_proj", 0, 4, 12),
            ],
        ),
        ("attn", "qkv_proj", 16, {"self_attn.qkv_proj": 16}, [Segment("self_attn.qkv_proj", 0, 16, 0)]),
        ("mlp", "gate_proj", 8, {"mlp.gate_up_proj": 16}, [Segment("mlp.gate_up_proj", 0, 8, 0)]),
        ("mlp", "up_proj", 8, {"mlp.gate_up_proj": 16}, [Segment("mlp.gate_up_proj", 8, 8, 0)]),
    ],
    ids=["plain", "packed by the builder", "packed in the checkpoint", "first half", "second half"],
)
def test_columns_are_traced_to_rows_of_modules(block, projection, width_out, module_rows, segments):
    graph = graph_of(block, projection, 8, width_out)
    rows = {f"{LAYER}.{module}": count for module, count in module_rows.items()}
    (found,) = lora_inputs.add_branches(graph, rows, TensorProto.FLOAT16)
    expected = [Segment(f"{LAYER}.{each.module}", each.first_row, each.rows, each.column) for each in segments]
    assert list(found.segments) == expected
    assert (found.width_in, found.width_out) == (8, width_out)


def test_a_branch_is_two_products_and_a_sum_with_rank_zero_defaults():
    graph = graph_of("mlp", "down_proj", 8, 4)
    lora_inputs.add_branches(graph, {f"{LAYER}.mlp.down_proj": 4}, TensorProto.FLOAT16)
    assert [node.op_type for node in graph.node] == ["MatMulNBits", "MatMul", "MatMul", "Add", "Identity"]
    assert [node.input[0] for node in graph.node] == ["x", "x", "y/lora_A", "y/base", "y"]
    shapes = {tensor.name: (list(tensor.dims), tensor.data_type) for tensor in graph.initializer}
    name = f"{LAYER}.mlp.down_proj"
    assert shapes == {
        f"{name}.lora_A": ([8, 0], TensorProto.FLOAT16),
        f"{name}.lora_B": ([0, 4], TensorProto.FLOAT16),
    }
    assert {each.name for each in graph.input} == set(shapes)


def test_the_activations_have_the_type_of_the_logits():
    assert lora_inputs.activation_type(graph_of("mlp", "down_proj", 8, 4)) == TensorProto.FLOAT16


def test_a_projection_that_no_module_makes_is_refused():
    with pytest.raises(UserError, match=r"down_proj/MatMulNBits has 8 columns, which are not the rows"):
        lora_inputs.add_branches(graph_of("mlp", "down_proj", 8, 8), {}, TensorProto.FLOAT)


def test_a_graph_without_projections_is_refused():
    with pytest.raises(UserError, match="no attention or MLP projection"):
        lora_inputs.add_branches(graph_of("other", "x", 8, 8), {}, TensorProto.FLOAT)
