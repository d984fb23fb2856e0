"""The int8 embedding and head: how they are rounded, stored and read. Parity is in test_adapter_graph.py."""

import hypothesis.strategies as st
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given
from onnx import TensorProto, helper, numpy_helper

from passes import int8_tables
from press.core.errors import UserError

pytestmark = pytest.mark.integration
VOCABULARY, WIDTH, BLOCK = 6, 64, 32


@given(
    seed=st.integers(0, 2**32 - 1),
    exponent=st.integers(-20, 6),
    dtype=st.sampled_from([np.float32, np.float16]),
    block=st.sampled_from([16, 32, 64]),
)
def test_a_weight_is_off_by_at_most_half_a_step(seed, exponent, dtype, block):
    weight = (np.random.default_rng(seed).normal(size=(4, 64)) * 2.0**exponent).astype(dtype)
    weight[0] = 0
    codes, scales = int8_tables.quantize(weight, block)
    assert (codes.dtype, codes.shape) == (np.uint8, (4, 64 // block, block))
    assert (scales.dtype, scales.shape) == (dtype, (4, 64 // block))
    assert codes.min() >= 1
    back = ((codes.astype(np.float64) - 128) * scales[..., None]).reshape(4, 64)
    assert (back[0] == 0).all()
    # A scale in fp16 is itself rounded, by a subnormal step at most where it is tiny.
    slack = 127 * np.maximum(scales * np.finfo(dtype).eps, np.finfo(dtype).smallest_subnormal)
    step = (scales / 2 + slack).astype(np.float64).repeat(block, axis=1)
    assert (np.abs(back - weight) <= step).all()


def graph(tied: bool, dtype: type = np.float32) -> onnx.ModelProto:
    """Embedding and head as the builder names them, with nothing in between."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(VOCABULARY, WIDTH)).astype(dtype)
    head = embedding if tied else rng.normal(size=(VOCABULARY, WIDTH)).astype(dtype)
    elem = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node(
            "Gather", ["model.embed_tokens.weight", "input_ids"], ["hidden"], "/model/embed_tokens/Gather"
        ),
        helper.make_node("MatMul", ["hidden", "lm_head.MatMul.weight"], ["logits"], "/lm_head/MatMul"),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
            [helper.make_tensor_value_info("logits", elem, ["batch", "tokens", VOCABULARY])],
            [
                numpy_helper.from_array(embedding, "model.embed_tokens.weight"),
                numpy_helper.from_array(np.ascontiguousarray(head.T), "lm_head.MatMul.weight"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
    )


def with_tables(proto: onnx.ModelProto, block_size: int = BLOCK) -> onnx.ModelProto:
    model = ir.from_proto(proto)
    int8_tables.replace_tables(model.graph, block_size, accuracy_level=1)
    return ir.to_proto(model)


def logits(proto: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": np.array([[0, 5, 3], [1, 1, 2]])})[0]


@pytest.mark.parametrize("tied", [True, False])
def test_the_graph_computes_the_same_with_rounded_tables(tied):
    before = graph(tied)
    after = with_tables(before)
    assert [node.op_type for node in after.graph.node] == ["Reshape", "GatherBlockQuantized", "Reshape", "MatMulNBits"]
    for tensor, axis in zip(before.graph.initializer, (0, 1), strict=True):
        weight = numpy_helper.to_array(tensor)
        codes, scales = int8_tables.quantize(weight.T if axis else weight, BLOCK)
        rounded = ((codes.astype(np.float32) - 128) * scales[..., None]).reshape(VOCABULARY, WIDTH)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(rounded.T if axis else rounded), tensor.name))
    np.testing.assert_allclose(logits(after), logits(before), atol=1e-4)


@pytest.mark.parametrize(("tied", "tables"), [(True, 1), (False, 2)])
def test_tied_tables_are_stored_once_and_no_float_is_left(tied, tables):
    initializers = with_tables(graph(tied)).graph.initializer
    assert [tensor.data_type for tensor in initializers].count(TensorProto.UINT8) == tables
    floats = [tensor for tensor in initializers if tensor.data_type == TensorProto.FLOAT]
    assert [list(tensor.dims) for tensor in floats] == [[VOCABULARY, WIDTH // BLOCK]] * tables


def test_the_scales_have_the_type_of_the_activations():
    types = {tensor.data_type for tensor in with_tables(graph(True, np.float16)).graph.initializer}
    assert types == {TensorProto.UINT8, TensorProto.FLOAT16, TensorProto.INT64}


def test_a_block_size_that_does_not_divide_the_width_is_refused():
    with pytest.raises(
        UserError, match="lm_head is 128, but they are 64 wide: choose one that divides it, 16 or 32 or"
    ):
        with_tables(graph(True), block_size=128)


def test_a_graph_whose_tables_are_not_in_floats_is_refused():
    with pytest.raises(UserError, match="no embedding and lm_head in floats"):
        with_tables(with_tables(graph(True)))
