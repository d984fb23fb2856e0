"""The tables that are read out of a graph are those that it computes with."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import parity
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from press.model import checkpoints, head_tables
from press.model.runtime import Runtime

pytestmark = pytest.mark.integration
ROWS, BLOCK, BLOCKS = 6, 16, 3
IDS = np.array([[0, 5, 3, 1]])


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Put two values of 4 bits in a byte, the low one first; an odd last one alone."""
    if bits == 8:
        return values
    even = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, values.shape[-1] % 2)])
    return even[..., ::2] | even[..., 1::2] << 4


def graph(bits: int, zero_points: bool, dtype: type) -> onnx.ModelProto:
    """An embedding and a head of other values, each in blocks, with nothing in between."""
    rng = np.random.default_rng(bits)
    initializers, inputs = [], {}
    for name in ("embedding", "head"):
        codes = packed(rng.integers(0, 2**bits, (ROWS, BLOCKS, BLOCK), np.uint8), bits)
        codes = codes.reshape(ROWS, -1) if name == "embedding" else codes
        scales = (rng.uniform(0.1, 1, (ROWS, BLOCKS)) / 2**bits).astype(dtype)
        zeros = packed(rng.integers(0, 2**bits, (ROWS, BLOCKS), np.uint8), bits)
        parts = {"codes": codes, "scales": scales} | ({"zeros": zeros} if zero_points else {})
        initializers += [numpy_helper.from_array(array, f"{name}.{part}") for part, array in parts.items()]
        inputs[name] = [f"{name}.{part}" for part in parts]
    codes, *rest = inputs["embedding"]
    shape = {"bits": bits, "block_size": BLOCK}
    nodes = [
        helper.make_node(
            "GatherBlockQuantized",
            [codes, "input_ids", *rest],
            ["hidden"],
            "/model/embed_tokens/GatherBlockQuantized",
            domain="com.microsoft",
            gather_axis=0,
            quantize_axis=1,
            **shape,
        ),
        helper.make_node(
            "MatMulNBits",
            ["hidden", *inputs["head"]],
            ["logits"],
            "/lm_head/MatMul_Q4",
            domain="com.microsoft",
            K=BLOCK * BLOCKS,
            N=ROWS,
            accuracy_level=1,
            **shape,
        ),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
            [helper.make_tensor_value_info("logits", kind, ["batch", "tokens", ROWS])],
            initializers,
        ),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_tables_in_blocks_are_those_that_the_runtime_computes_with(tmp_path, bits, zero_points, dtype):
    model = graph(bits, zero_points, dtype)
    onnx.save(model, tmp_path / "model.onnx")
    found = head_tables.read(tmp_path / "model.onnx")
    assert found.embedding.dtype == found.head.dtype == np.float32
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"input_ids": IDS})
    expected = found.embedding[IDS] @ found.head.T
    tolerance = {np.float32: 1e-6, np.float16: 4e-3}[dtype]
    assert parity.distance(logits.astype(np.float32), expected) < tolerance


@pytest.mark.parametrize("precision", ["int8", "int4", "float"])
def test_with_the_graph_s_tables_pytorch_computes_what_onnx_does(tiny_quantized, in_root, precision):
    """At accuracy_level 1 nothing but the tables and the order of additions differs: see parity.TOLERANCE."""
    folder = parity.captured_to(in_root, tiny_quantized, precision)
    model = checkpoints.dequantize(checkpoints.load(tiny_quantized))
    head_tables.put(model, head_tables.read(folder / "model.onnx"))
    ids = list(range(60, 100))
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0].numpy()
    assert parity.distance(Runtime(folder, {}, 2).logits(ids, None), logits) < parity.TOLERANCE


def test_a_graph_without_such_nodes_or_none_at_all_is_said_to_be_so(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(head_tables.UnreadableError, match=r"model\.onnx is missing"):
        head_tables.read(path)
    model = graph(8, False, np.float32)
    model.graph.node[1].name = "/other/MatMul"
    onnx.save(model, path)
    with pytest.raises(head_tables.UnreadableError, match="0 nodes /lm_head/… of MatMul or MatMulNBits, not one"):
        head_tables.read(path)


def test_tables_of_another_shape_are_not_put_into_a_model(tiny_base: Path):
    wrong = np.zeros((3, 64), np.float32)
    with pytest.raises(head_tables.UnreadableError, match=r"\(3, 64\), but \(\d+, 64\) in PyTorch"):
        head_tables.put(checkpoints.load(tiny_base), head_tables.Tables(wrong, wrong))
