"""Scales go through a fold: a norm tells by what it was divided, and heads that are shared have scales in common."""

import pytest
import torch
from architectures import random_model
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm, repeat_kv

from passes.activation_aware import fold, layers

pytestmark = pytest.mark.integration


def any_scales(channels: int) -> torch.Tensor:
    return torch.exp(2 * torch.rand(channels) - 1)


def test_scales_are_repeated_by_heads_as_attention_repeats_them():
    group = layers.folds(random_model("llama").model.layers[0], "layer")[1]
    scales = torch.arange(32.0)
    heads = repeat_kv(scales.reshape(1, 2, 1, 16), 2)
    assert torch.equal(group.repeated(scales), heads.flatten())
    assert torch.equal(
        group.repeated(torch.stack([scales, 2 * scales])), torch.stack([heads.flatten(), 2 * heads.flatten()])
    )


def test_what_belongs_to_shared_channels_is_averaged_over_the_heads_that_share_them():
    group = layers.folds(random_model("llama").model.layers[0], "layer")[1]
    values = torch.arange(64.0)
    assert torch.equal(group.shared(values), torch.cat([values[:16] + 8, values[32:48] + 8]))
    assert torch.equal(group.shared(group.repeated(values[:32])), values[:32])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("norm", "offset"), [(LlamaRMSNorm(64), 0), (Gemma2RMSNorm(64), 1), (nn.LayerNorm(64), 0)])
def test_what_a_norm_adds_to_its_weight_is_found_and_the_weight_kept(norm, offset, dtype):
    norm = norm.to(dtype)
    norm.weight.data.uniform_(-1, 1)
    before = norm.weight.clone()
    assert fold.Norm(norm).offset == offset
    assert torch.equal(norm.weight, before)


@pytest.mark.parametrize(("norm", "offset"), [(LlamaRMSNorm(64), 0), (Gemma2RMSNorm(64), 1)])
def test_a_norm_tells_by_what_its_stored_weight_was_divided(norm, offset):
    norm = norm.to(torch.bfloat16)
    norm.weight.data.uniform_(0.5, 1.5)
    gain = norm.weight.float() + offset
    scales = any_scales(64)
    divided = fold.Norm(norm).divide(scales, {})
    torch.testing.assert_close(divided, gain / (norm.weight.float() + offset), rtol=0, atol=0)
    assert not torch.equal(divided, scales)
    torch.testing.assert_close(divided, scales, rtol=0.05, atol=0)


def test_a_channel_that_a_norm_puts_out_has_finite_scales():
    norm = LlamaRMSNorm(64)
    norm.weight.data[3] = 0
    scales = any_scales(64)
    divided = fold.Norm(norm).divide(scales, {})
    assert norm.weight[3] == 0
    torch.testing.assert_close(divided, scales)
