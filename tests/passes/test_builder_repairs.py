"""Repairs of the model builder that need no checkpoint; test_architectures.py and test_targets.py have the rest."""

from types import SimpleNamespace

import pytest

from passes import builder_repairs

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("nodes", "is_left"),
    [
        ({"/lm_head/MatMul": "MatMul", "/layer/MatMulNBits": "MatMulNBits"}, False),
        ({"/lm_head/MatMul": "MatMul", "/layer/MatMul": "MatMul"}, True),
        ({"/embed_tokens/Gather": "Gather"}, False),
    ],
)
def test_what_is_left_to_quantize_is_looked_for_only_where_something_is(nodes, is_left):
    graph = [SimpleNamespace(name=name, op_type=kind) for name, kind in nodes.items()]
    attributes = {"op_types_to_quantize": ("MatMul",), "nodes_to_exclude": ["/lm_head/MatMul"]}
    model = SimpleNamespace(quant_attrs=attributes, model=SimpleNamespace(graph=graph))
    assert (builder_repairs.quantize_rest(model, lambda _: "quantized") == "quantized") is is_left
