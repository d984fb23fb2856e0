"""Capturing for targets. What the CPU's graph computes is tested in tests/passes/test_adapter_graph.py."""

import onnx
import pytest
from conftest import ROOT
from onnx import TensorProto

from passes import builder
from press import files, settings
from stages import capture

CPU = settings.load(ROOT / "params.yaml").target("cpu")


@pytest.mark.parametrize(
    ("provider", "precision"),
    [("CUDAExecutionProvider", "int8"), ("WebGpuExecutionProvider", "int8"), ("DmlExecutionProvider", "int4")],
)
def test_a_target_whose_runtime_is_not_here_is_built_and_read(tiny_quantized, in_root, capsys, provider, precision):
    changes = {"device": "gpu", "provider": provider, "precision": precision}
    target = settings.Target.model_validate({**CPU.model_dump(), **changes})
    result = capture.capture(target, tiny_quantized, in_root)
    assert f"note: {provider} is not on this machine" in capsys.readouterr().out
    graph = onnx.load(result / "model.onnx").graph
    types = {each.name: each.type.tensor_type.elem_type for each in graph.input}
    assert types["model.layers.0.attn.o_proj.lora_A"] == TensorProto.FLOAT16
    assert files.read_json(result / "lora_inputs.json")["dtype"] == "float16"


def test_every_provider_of_the_parameters_has_its_name_for_the_builder():
    assert set(settings.PROVIDERS) == set(builder.PROVIDERS)
