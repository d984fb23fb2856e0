"""In GPTQ's calibration each layer is called as in the model, with its own window and rope."""

from types import SimpleNamespace

import pytest
import torch
from architectures import random_model

from passes import gptq

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", ["gemma3_text", "gemma4_text", "granitemoehybrid"])
def test_a_layer_reads_what_it_reads_in_the_model(monkeypatch, name):
    model, ids = random_model(name), torch.arange(32, 96)[None]
    layers = model.model.layers
    monkeypatch.setattr(gptq.quant_utils, "get_calibration_dataset", lambda *_: [{"input_ids": ids}])
    wrapper = SimpleNamespace(model=model, get_layers=lambda return_name: layers)
    (states,), _, arguments = gptq.recorded(None, wrapper, None, "cpu")
    with torch.inference_mode():
        for layer in layers:
            states = layer(states, **arguments[id(layer)][0])
        assert torch.equal(model.model.norm(states), model.model(ids, use_cache=False).last_hidden_state)
