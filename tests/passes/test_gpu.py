"""When a training on a GPU is compiled, and for which lengths of sequences."""

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from passes import gpu
from press.model import device

pytestmark = pytest.mark.integration
LAYERS = 32
ENOUGH = gpu.WORTHWHILE // LAYERS + 1  # batches that pay for one length


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ([256] * (ENOUGH - 2), []),
        ([250] * ENOUGH, [256]),
        ([100] * ENOUGH + [256] * ENOUGH, [128, 256]),
        ([100] * 3 + [256] * ENOUGH, [256]),
        # A few long ones are no reason for a length of their own, but they have to fit.
        ([100] * ENOUGH + [256] * 3, [256]),
        ([60] * ENOUGH + [100] * ENOUGH + [512] * ENOUGH, [64, 128, 512]),
        ([9] * ENOUGH, [16]),
    ],
)
def test_a_length_is_compiled_for_if_it_has_enough_batches(widths, expected):
    assert gpu.lengths(widths, LAYERS) == expected


def test_a_shallow_model_needs_more_batches():
    assert gpu.lengths([256] * ENOUGH, LAYERS // 2) == []
    assert gpu.lengths([256] * 2 * ENOUGH, LAYERS // 2) == [256]


@pytest.mark.parametrize(("recompute", "expected"), [(False, []), (True, [64])])
def test_half_as_many_steps_pay_where_activations_would_be_computed_anew(recompute, expected):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_hidden_layers=2, **sizes))
    way = gpu.choose(model, [64] * (gpu.WORTHWHILE // 4), 1, compiles=True, recompute=recompute)
    assert way.lengths == expected


class OfTheCheckpointsOwnCode(LlamaForCausalLM):
    """As trust_remote_code gives it."""


def test_only_transformers_own_models_are_asked_for_the_logits_of_labelled_tokens_alone():
    from passes import lora

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=50, num_hidden_layers=2, **sizes)
    for kind, expected in ((LlamaForCausalLM, True), (OfTheCheckpointsOwnCode, False)):
        way = gpu.choose(kind(config), [64] * gpu.WORTHWHILE, 1, compiles=True, recompute=True)
        assert (way.labelled_only, way.lengths, way.recompute) == (expected, [64], True)
        with mock.patch.object(device, "resolve", return_value="cpu"):
            peft = SimpleNamespace(get_base_model=lambda kind=kind: kind(config))
            assert lora.chosen_way(peft, [], None, None) == gpu.Way(labelled_only=expected)
    assert gpu.choose(kind(config), [64] * gpu.WORTHWHILE, 1, compiles=False, recompute=False).lengths == []


def test_what_is_asked_of_pytorch_is_taken_back():
    def asked() -> tuple[bool, bool]:
        settings: Any = torch.utils.deterministic
        return torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory

    before = asked()
    with gpu.repeatable():
        assert asked() == (True, False)
    assert asked() == before
