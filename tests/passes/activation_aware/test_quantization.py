"""The walk over the layers: what it holds on to."""

import weakref

import pytest
import torch
from olive.model import HfModelHandler
from olive.passes.olive_pass import create_pass_from_dict
from olive.passes.pytorch import quant_utils

from passes import awq
from passes.activation_aware.quantization import quantize_layers

pytestmark = pytest.mark.integration


def test_a_layer_s_plain_weights_are_gone_before_the_next_layer_runs(tiny_base):
    """On a GPU, the layers done would pile up there."""
    handler = HfModelHandler(str(tiny_base))
    values = {"group_size": 32, "rows": 2, "row_tokens": 16, "data_config": {}}
    config = create_pass_from_dict(awq.Awq, values, disable_search=True).config
    wrapper, _, _ = quant_utils.prepare_model(handler, config)
    first, second = wrapper.get_layers()[0]
    plain = [weakref.ref(module.weight) for module in first.modules() if isinstance(module, torch.nn.Linear)]
    alive = []
    second.register_forward_pre_hook(lambda *_: alive.append(sum(weight() is not None for weight in plain)))
    with torch.no_grad():
        quantize_layers(wrapper, torch.randint(0, 200, (2, 16)), config, torch.device("cpu"))
    assert len(plain) == 7
    assert alive[0] == 7
    assert alive[-1] == 0
