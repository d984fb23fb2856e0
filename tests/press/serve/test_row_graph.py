"""Which graphs have rows with adapters of their own, and what is changed in them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from press.serve import row_graph

CONFIG = {
    "model": {
        "decoder": {
            "filename": "model.onnx",
            "num_hidden_layers": 1,
            "num_key_value_heads": 2,
            "head_size": 4,
            "session_options": {"provider_options": []},
        }
    }
}


def graph(attention: str = "GroupQueryAttention", kind: int = TensorProto.FLOAT, more: tuple = ()) -> onnx.GraphProto:
    past = ["past_key_values.0.key", "past_key_values.0.value"]
    floats = [*past, "x.lora_A", "x.lora_B", "x.row_scale"]
    inputs = [helper.make_tensor_value_info(name, kind, ["a", "b"][: 1 + (name != "x.row_scale")]) for name in floats]
    for name in ("input_ids", "attention_mask", *more):
        inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]))
    nodes = [
        helper.make_node(attention, ["input_ids", *past], ["hidden"]),
        helper.make_node("MatMulNBits", ["hidden", "head"], ["logits"], "lm_head"),
    ]
    default = [helper.make_tensor(name, kind, [0], []) for name in floats[2:]]
    return helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("logits", kind, None)], default)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"session_options": {"provider_options": [{"cuda": {}}]}}, "not for the CPU"),
        ({"pipeline": [{}]}, "not one graph"),
        ({"sliding_window": {"window_size": 8}}, "does not remember"),
        ({"inputs": {"past_conv_names": "past.%d"}}, "does not remember"),
    ],
)
def test_a_model_without_rows_is_told_by_its_config(changes, why, tmp_path):
    config = {"model": {"decoder": {**CONFIG["model"]["decoder"], **changes}}}
    assert why in row_graph.unfit(config, tmp_path)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, None),
        ({"more": ("position_ids",)}, None),
        ({"kind": TensorProto.FLOAT16}, None),
        ({"kind": TensorProto.BFLOAT16}, "type that NumPy has not"),
        ({"attention": "MultiHeadAttention"}, "attention is not"),
        ({"more": ("past_conv",)}, "an input past_conv"),
    ],
)
def test_a_model_without_rows_is_told_by_its_graph(given, why, tmp_path):
    onnx.save(helper.make_model(graph(**given)), tmp_path / "model.onnx")
    found = row_graph.unfit(CONFIG, tmp_path)
    assert found is None if why is None else why in found


def test_adapters_get_a_dimension_and_slots_and_the_head_the_last_positions():
    edited = graph()
    row_graph.edit(edited, row_graph.names(CONFIG))
    ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in edited.input}
    assert [ranks[f"x.{name}"] for name in ("lora_A", "lora_B", "row_scale")] == [5, 6, 3]
    assert [ranks[name] for name in (row_graph.SLOTS, row_graph.WANTED, row_graph.PLACES)] == [2, 4, 2]
    assert {each.name for each in edited.initializer} == {"rows/first", "rows/end", "rows/axis"}
    assert [node.op_type for node in edited.node] == ["GroupQueryAttention", "Slice", "MatMulNBits"]
    assert edited.node[2].input[0] == edited.node[1].output[0]


def test_each_row_is_multiplied_by_its_adapter_in_a_slot_and_what_is_read_by_two_products_is_gathered_once():
    names = ("first", "second")
    inputs = [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch_size", "s", 2])]
    nodes = []
    for name in names:
        for side, sizes in (("A", [2, "r"]), ("B", ["r", 3])):
            inputs.append(helper.make_tensor_value_info(f"{name}.lora_{side}", TensorProto.FLOAT, sizes))
        nodes.append(helper.make_node("MatMul", ["hidden", f"{name}.lora_A"], [f"{name}/inner"]))
        nodes.append(helper.make_node("MatMul", [f"{name}/inner", f"{name}.lora_B"], [name]))
    nodes.append(helper.make_node("Add", names, ["logits"]))
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
    edited = helper.make_graph(nodes, "g", inputs, outputs)
    row_graph.edit(edited, row_graph.names(CONFIG))
    assert [node.op_type for node in edited.node].count("Gather") == 1
    model = helper.make_model(edited, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    # Rows of two adapters, and one of none in the slot that is left.
    draw = np.random.default_rng(0).standard_normal
    given = {"hidden": draw((4, 5, 2)), row_graph.WANTED: np.array([1, 1, 1, 0]).reshape(2, 2, 1, 1)}
    for name in names:
        given |= {f"{name}.lora_A": draw((1, 2, 1, 2, 1)), f"{name}.lora_B": draw((1, 1, 2, 1, 1, 3))}
    given = {name: value.astype(np.float32) for name, value in given.items()}
    given[row_graph.SLOTS] = np.array([[2, 0], [1, 3]])
    given[row_graph.PLACES] = np.array([[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1]])
    (told,) = ReferenceEvaluator(model).run(None, given)
    for row, adapter in enumerate((0, 1, 0)):
        sides = [(given[f"{name}.lora_A"][0, adapter, 0], given[f"{name}.lora_B"][0, 0, adapter, 0]) for name in names]
        expected = sum(given["hidden"][row] @ down @ up for down, up in sides)
        np.testing.assert_allclose(told[row], expected, rtol=1e-5)
    assert not told[3].any()
