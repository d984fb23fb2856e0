"""The experts of a checkpoint's layers are apart from each other, whatever its files call them."""

import pytest
import torch

from press.sources import experts_apart

pytestmark = pytest.mark.unit
ROWS = torch.arange(2 * 4 * 3).reshape(2, 4, 3)


@pytest.mark.parametrize("together", ["mlp.experts.gate_up_proj", "block_sparse_moe.input_linear.weight"])
def test_gates_and_values_in_one_tensor_are_taken_apart(together):
    block, found = together.partition(".")[0], experts_apart.parts(f"model.layers.0.{together}", lambda: ROWS)
    assert {name.removeprefix(f"model.layers.0.{block}.experts."): rows.tolist() for name, rows in found.items()} == {
        "0.w1.weight": [[0, 1, 2], [3, 4, 5]],
        "0.w3.weight": [[6, 7, 8], [9, 10, 11]],
        "1.w1.weight": [[12, 13, 14], [15, 16, 17]],
        "1.w3.weight": [[18, 19, 20], [21, 22, 23]],
    }


@pytest.mark.parametrize("together", ["mlp.experts.down_proj", "block_sparse_moe.output_linear.weight"])
def test_outputs_in_one_tensor_are_taken_apart(together):
    found = experts_apart.parts(f"model.layers.0.{together}", lambda: ROWS)
    assert [rows.tolist() for rows in found.values()] == ROWS.tolist()
    assert next(iter(found)) == f"model.layers.0.{together.partition('.')[0]}.experts.0.w2.weight"


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("mlp.experts.3.up_proj.weight", "mlp.experts.3.w3.weight"),
        ("mlp.experts.3.down_proj.qweight", "mlp.experts.3.w2.qweight"),
        ("feed_forward.experts.3.w1.weight", "feed_forward.experts.3.w1.weight"),
        ("block_sparse_moe.router.layer.weight", "block_sparse_moe.router.weight"),
        ("shared_mlp.input_linear.weight", "shared_mlp.input_linear.weight"),
        ("mlp.shared_expert.up_proj.weight", "mlp.shared_expert.up_proj.weight"),
    ],
)
def test_what_is_apart_has_the_names_of_all(name, own):
    assert list(experts_apart.parts(f"model.layers.0.{name}", lambda: ROWS)) == [f"model.layers.0.{own}"]
