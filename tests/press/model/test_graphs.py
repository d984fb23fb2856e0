"""What becomes of a graph that is not valid, and of one that the CPU provider has no kernel for."""

import onnx
import pytest
from onnx import TensorProto, helper

from press.core import files
from press.core.errors import UserError
from press.model import graphs
from press.params import schema


def saved(path, *nodes: onnx.NodeProto, kind: int = TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, [4])],
        [helper.make_tensor_value_info("y", kind, [4])],
    )
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_experts_are_refused_for_a_provider_whose_product_of_them_nobody_compared(tmp_path):
    files.write_json(tmp_path / "config.json", {"model_type": "lfm2_moe"})
    target = schema.Target(
        device="gpu",
        provider="CUDAExecutionProvider",
        precision="int4",
        block_size=32,
        accuracy_level=1,
        adapters="lora",
    )
    with pytest.raises(UserError, match="their product by CUDAExecutionProvider was not compared with PyTorch's: CPU"):
        graphs.build({"model_path": str(tmp_path)}, target, tmp_path)


def test_a_valid_graph_passes(tmp_path):
    path = saved(tmp_path / "model.onnx", helper.make_node("Acos", ["x"], ["y"]))
    assert graphs.check_graph(path) is None
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


def test_a_kernel_that_the_cpu_provider_lacks_is_told(tmp_path):
    path = saved(tmp_path / "model.onnx", helper.make_node("Acos", ["x"], ["y"]), kind=TensorProto.BFLOAT16)
    assert "Acos" in graphs.check_graph(path)


def test_an_input_that_nothing_makes_is_refused_by_the_checker(tmp_path):
    path = saved(tmp_path / "model.onnx", helper.make_node("Acos", ["lost"], ["y"]))
    with pytest.raises(onnx.checker.ValidationError, match="lost"):
        graphs.check_graph(path)


def test_an_operator_that_nobody_knows_is_refused_by_the_runtime(tmp_path):
    path = saved(tmp_path / "model.onnx", helper.make_node("Acoz", ["x"], ["y"]))
    with pytest.raises(Exception, match="Acoz"):
        graphs.check_graph(path)
