"""Experts that are linear layers of their own compute what transformers' do, from the same files."""

import pytest
import torch
from architectures import ARCHITECTURES, SHAPE, random_model, save
from transformers import AutoConfig

from press.model import checkpoints, experts, weights

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", experts.KINDS)
def test_a_layer_computes_what_transformers_layer_does(name):
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **{**SHAPE, **ARCHITECTURES[name]})
    block = experts.set_apart(name, checkpoints.MIXTURES[name])
    own, plain = block(config).double(), block.__base__(config).double()
    for parameter in own.parameters():
        parameter.data.normal_()
    for buffer in own.buffers():
        buffer.normal_()
    together = {
        "experts.gate_up_proj": torch.stack([torch.cat([each.w1.weight, each.w3.weight]) for each in own.experts]),
        "experts.down_proj": torch.stack([each.w2.weight for each in own.experts]),
    }
    rest = {key: value for key, value in own.state_dict().items() if not key.startswith("experts.")}
    plain.load_state_dict(together | rest)
    states = torch.randn(2, 16, config.hidden_size, dtype=torch.float64)
    torch.testing.assert_close(own(states), plain(states))


def test_a_checkpoint_is_read_as_it_is_written_and_has_each_expert_apart(tmp_path):
    model = random_model("lfm2_moe")
    folder = save(model, tmp_path)
    weights.check(folder, trust=False)
    assert checkpoints.module_rows(folder)["model.layers.1.feed_forward.experts.7.w2"] == SHAPE["hidden_size"]
    loaded = checkpoints.load(folder)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_an_adapter_attaches_to_what_is_no_expert_and_no_router(tmp_path):
    folder = save(random_model("lfm2_moe"), tmp_path)
    attention = {"q_proj", "k_proj", "v_proj", "out_proj"}
    assert checkpoints.adaptable_modules(folder) == {*attention, "in_proj", "w1", "w2", "w3"}
    alone = save(random_model("lfm2_moe", num_dense_layers=0), tmp_path / "alone")
    assert checkpoints.adaptable_modules(alone) == {*attention, "in_proj"}
    shared = save(random_model("qwen3_5_moe_text", layer_types=["full_attention"] * 2), tmp_path / "shared")
    shared_expert = {"gate_proj", "up_proj", "down_proj"}
    assert checkpoints.adaptable_modules(shared) == {"q_proj", "k_proj", "v_proj", "o_proj", *shared_expert}
