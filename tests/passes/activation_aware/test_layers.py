"""Folding scales into a layer keeps what it computes, and a layer where it would not is refused."""

import pytest
import torch
from architectures import ARCHITECTURES, random_model
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from passes.activation_aware import calibration, fold, layers
from press.core.errors import UserError

pytestmark = pytest.mark.integration

# fp32 holds 1.2e-7 of a number; through two layers with weights of size 0.3 errors grow about tenfold.
TOLERANCE = 1e-5
IDS = torch.randint(32, 256, (2, 48), generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")
# Granite's dense layers have the norm of their MLP to themselves; with experts, they share it.
NAMES = (*ARCHITECTURES, "granitemoehybrid without mamba")


def powers_of_two(channels: int) -> torch.Tensor:
    return 2.0 ** torch.randint(-2, 3, (channels,))


def any_scales(channels: int) -> torch.Tensor:
    return torch.exp(2 * torch.rand(channels) - 1)


def linears_of(module: nn.Module) -> list[nn.Linear]:
    return [each for each in module.modules() if isinstance(each, nn.Linear)]


def fold_all(model, scales_of) -> None:
    """Fold scales into every layer, as LayerJob does: in fp32 first, then written back."""
    for index, layer in enumerate(model.model.layers):
        groups = layers.folds(layer, f"model.layers.{index}")
        weights = {linear: linear.weight.float() for group in groups for linear in group.linears.values()}
        for group in groups:
            group.apply(scales_of(group.maker.channels), weights)
        for linear, weight in weights.items():
            linear.weight.data = weight.to(linear.weight.dtype)


def layer_of(model, index: int = 0):
    """Return a layer, its name and its inputs, as check_folds wants them."""
    inputs = calibration.LayerInputs.record(model, model.model.layers, [IDS], CPU)
    for before in range(index):
        inputs.advance(model.model.layers[before], before)
    layer, states = model.model.layers[index], inputs.hidden[0]
    return layer, "layer", states, inputs.arguments[index][0]


@pytest.mark.parametrize("name", NAMES)
def test_scales_that_floating_point_holds_change_no_bit_of_the_logits(name):
    model = random_model(name)
    expected = model(IDS).logits
    scaled = [
        linear
        for layer in model.model.layers
        for group in layers.folds(layer, "layer")
        if not isinstance(group.maker, fold.Fixed)
        for linear in group.linears.values()
    ]
    before = [linear.weight.clone() for linear in scaled]
    fold_all(model, powers_of_two)
    assert scaled
    assert not any(map(torch.equal, before, [linear.weight for linear in scaled]))
    assert torch.equal(model(IDS).logits, expected)


@pytest.mark.parametrize("name", NAMES)
def test_any_scales_change_the_logits_by_no_more_than_rounding(name):
    model = random_model(name)
    expected = model(IDS).logits
    fold_all(model, any_scales)
    assert (model(IDS).logits - expected).abs().max() < TOLERANCE * expected.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_every_linear_of_a_layer_is_in_one_fold(name):
    layer = random_model(name).model.layers[0]
    folded = [linear for group in layers.folds(layer, "layer") for linear in group.linears.values()]
    assert len(folded) == len(set(folded))
    assert set(folded) == set(linears_of(layer))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_check_passes_a_layer_that_is_known_and_leaves_it_as_it_was(name, dtype):
    model = random_model(name, dtype)
    for index in range(2):
        layer, *inputs = layer_of(model, index)
        before = {key: tensor.clone() for key, tensor in layer.state_dict().items()}
        layers.check_folds(layer, *inputs)
        assert all(map(torch.equal, layer.state_dict().values(), before.values()))


@pytest.mark.parametrize("name", ["gemma2", "gemma3_text"])
def test_the_check_passes_a_16_bit_layer_that_changes_its_input_by_little(name):
    layer, *inputs = layer_of(random_model(name, torch.bfloat16))
    for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
        norm.weight.fill_(0.01 - 1)
    for norm in (layer.input_layernorm, layer.pre_feedforward_layernorm):
        norm.weight.uniform_(-0.5, 0.5)
    layers.check_folds(layer, *inputs)


@pytest.mark.parametrize("reader", ["input_layernorm", "post_attention_layernorm", "v_proj", "up_proj"])
def test_the_check_refuses_a_layer_in_which_something_else_reads_what_is_scaled(reader):
    layer, *inputs = layer_of(random_model("llama"))
    layers.check_folds(layer, *inputs)
    module = next(module for name, module in layer.named_modules() if name.endswith(reader))
    read = {}
    module.register_forward_hook(lambda _, inputs, output: read.update(output=output))
    layer.register_forward_hook(lambda _, inputs, output: output + nn.functional.pad(read["output"], (0, 64))[..., :64])
    with pytest.raises(
        UserError, match=r"awq cannot quantize layer \(LlamaDecoderLayer\): .* changes its output by \d"
    ):
        layers.check_folds(layer, *inputs)


def test_a_layer_without_an_expected_module_is_refused_by_name():
    layer = LlamaDecoderLayer(LlamaConfig(hidden_size=64, intermediate_size=64, num_attention_heads=4), 0)
    del layer.mlp.down_proj
    with pytest.raises(UserError, match=r"layers\.0 \(LlamaDecoderLayer\): it has no mlp\.down_proj, .* rtn or gptq"):
        layers.folds(layer, "layers.0")
