"""What an adapter file refuses to hold. What it computes is asked of a graph, in tests/passes/test_adapter_graph.py."""

import numpy as np
import pytest

from press.core.errors import UserError
from press.model import adapter_inputs

pytestmark = pytest.mark.unit
CONFIG = {"r": 3, "lora_alpha": 6}
MODULE = "model.layers.0.mlp.down_proj"
LAYOUT = {
    "dtype": "float16",
    "projections": [
        {
            "name": "down",
            "width_in": 4,
            "width_out": 2,
            "segments": [{"module": MODULE, "first_row": 0, "rows": 2, "column": 0}],
        }
    ],
}


def weights_of(module: str) -> dict[str, np.ndarray]:
    prefix = f"base_model.model.{module}"
    return {f"{prefix}.lora_A.weight": np.ones((3, 4)), f"{prefix}.lora_B.weight": np.ones((2, 3))}


def test_inputs_have_the_graphs_type_and_b_holds_the_scaling():
    inputs = adapter_inputs.graph_inputs(CONFIG, weights_of(MODULE), LAYOUT)
    assert {name: (array.shape, array.dtype) for name, array in inputs.items()} == {
        "down.lora_A": ((4, 3), np.float16),
        "down.lora_B": ((3, 2), np.float16),
    }
    assert (inputs["down.lora_B"] == 2).all()


def test_a_module_that_the_graph_does_not_have_is_refused():
    with pytest.raises(UserError, match=r"changes base_model\.model\.lm_head\.lora_A\.weight"):
        adapter_inputs.graph_inputs(CONFIG, weights_of(MODULE) | weights_of("lm_head"), LAYOUT)


@pytest.mark.parametrize(
    ("option", "value"),
    [("use_dora", True), ("bias", "all"), ("modules_to_save", ["lm_head"]), ("rank_pattern", {"x": 2})],
)
def test_what_a_plain_branch_cannot_express_is_refused(option, value):
    with pytest.raises(UserError, match=f"uses {option}, which"):
        adapter_inputs.graph_inputs({**CONFIG, option: value}, weights_of(MODULE), LAYOUT)
