"""Which graphs have rows with adapters of their own, and what is changed in them."""

import onnx
import pytest
from onnx import TensorProto, helper

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


def test_adapters_get_a_dimension_of_rows_and_the_head_the_last_positions():
    edited = graph()
    row_graph.edit(edited, row_graph.names(CONFIG))
    ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in edited.input}
    assert [ranks[f"x.{name}"] for name in ("lora_A", "lora_B", "row_scale")] == [3, 3, 3]
    assert {each.name for each in edited.initializer} == {"rows/first", "rows/end", "rows/axis"}
    assert [node.op_type for node in edited.node] == ["GroupQueryAttention", "Slice", "MatMulNBits"]
    assert edited.node[2].input[0] == edited.node[1].output[0]
