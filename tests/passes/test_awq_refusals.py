"""The awq pass: what it does not quantize, one sentence says why."""

import math

import pytest
import torch
from architectures import random_model, save
from olive.data.registry import Registry
from olive.model import HfModelHandler
from olive.passes.pytorch import train_utils
from pydantic import ValidationError
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from press.core.errors import UserError

from .awq_runs import IDS, OPTIONS, awq_pass, options, refuse

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("embed_tokens.weight", math.nan),
        ("layers.0.input_layernorm.weight", math.inf),
        ("layers.0.self_attn.q_proj.weight", math.nan),
        ("layers.0.self_attn.k_proj.bias", math.inf),
        ("layers.0.mlp.down_proj.weight", -math.inf),
        ("layers.1.self_attn.v_proj.weight", math.nan),
        ("layers.1.mlp.down_proj.weight", math.inf),
        ("layers.1.post_attention_layernorm.weight", math.nan),
    ],
)
def test_a_weight_that_is_no_number_is_refused(in_root, name, value):
    model = random_model("qwen2")
    model.get_parameter(f"model.{name}")[..., 5] = value
    refuse(save(model, in_root / "base"), "NaN or infinite")


@pytest.mark.parametrize("layer", [0, 1])
def test_activations_beyond_the_type_are_refused(in_root, layer):
    model = random_model("llama", torch.float16)
    model.model.layers[layer].post_attention_layernorm.weight.fill_(60000)
    refuse(save(model, in_root / "base"), rf"layers\.{layer}\.mlp\.\w+ has NaN or infinite inputs")


@Registry.register_dataset()
def awq_test_rows(count: int, mask: int, **_) -> list[tuple[dict[str, torch.Tensor], int]]:
    return [({"input_ids": row, "attention_mask": torch.full_like(row, mask)}, 0) for row in IDS[:count]]


@pytest.mark.parametrize(("count", "mask", "tokens"), [(0, 1, 0), (4, 0, 0), (3, 1, 192)])
def test_too_little_calibration_data_is_refused(llama, count, mask, tokens):
    rows = {"type": "awq_test_rows", "params": {"count": count, "mask": mask}}
    refuse(
        llama,
        f"calibration data has {tokens} tokens, but 4 rows of 64 need 256",
        data_config={"name": "calibration", "load_dataset_config": rows},
    )


@pytest.mark.parametrize("config", [OPTIONS, OPTIONS | {"data_config": None}, OPTIONS | {"data_config": {}}])
def test_without_calibration_data_it_is_refused_and_nothing_is_downloaded(llama, monkeypatch, config):
    monkeypatch.setattr(
        train_utils, "get_calibration_data_config", lambda *_, **__: pytest.fail("Olive's own data set is asked for")
    )
    with pytest.raises((ValidationError, UserError), match="data_config"):
        awq_pass(config).run(HfModelHandler(str(llama)), str(llama / "quantized"))


def test_a_group_size_that_does_not_divide_is_refused(llama):
    refuse(llama, r"group_size is 128, but must divide 64, the input width of model\.layers\.0\.\S+$", group_size=128)


@pytest.mark.parametrize("size", [-1, 0, 48])
def test_a_linears_own_group_size_that_olive_cannot_store_is_refused(in_root, size):
    base = save(random_model("llama", intermediate_size=96), in_root / "base")
    refuse(base, "group_size", overrides={"model.layers.0.mlp.down_proj": {"group_size": size}})


def test_a_head_that_is_tied_is_refused(in_root):
    base = save(random_model("llama", tie_word_embeddings=True), in_root / "base")
    refuse(base, "lm_head is tied to the embedding, .* leave lm_head false", lm_head=True)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("cohere", "pre_feedforward_layernorm"),
        ("gpt_neox", "self_attn"),
        ("gpt2", "self_attn"),
        ("mixtral", r"mlp\.down_proj"),
        ("olmo2", "input_layernorm"),
    ],
)
def test_a_layer_of_another_shape_is_refused(in_root, name, missing):
    refuse(save(random_model(name), in_root / "base"), rf"cannot quantize .*: it has no {missing}, .* use rtn or gptq")


def test_a_model_that_olive_cannot_take_apart_is_refused(in_root):
    refuse(save(random_model("granitemoe"), in_root / "base"), "cannot quantize .*granitemoe")


def test_a_layer_in_which_something_else_reads_a_norm_is_refused(llama, monkeypatch):
    forward = LlamaDecoderLayer.forward

    def parallel(self, hidden_states: torch.Tensor, **arguments) -> torch.Tensor:
        return forward(self, hidden_states, **arguments) + self.mlp(self.input_layernorm(hidden_states))

    monkeypatch.setattr(LlamaDecoderLayer, "forward", parallel)
    refuse(llama, r"cannot quantize model\.layers\.0 \(LlamaDecoderLayer\): folding .* changes its output by [\d.]+%")


def test_a_model_that_is_quantized_is_refused(tiny_quantized, in_root):
    refuse(tiny_quantized, "the model is quantized already")


def test_a_gpu_that_is_not_there_is_refused(llama, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refuse(llama, "device is cuda, but PyTorch finds no CUDA device here", device="cuda")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bits", 3),
        ("bits", 2),
        ("group_size", 48),
        ("group_size", -1),
        ("grid_points", 1),
        ("search_rows", 0),
        ("clip_modules", []),
        ("rounding", "stochastic"),
        ("damping", 0),
        ("damping", 1),
        ("rows", 0),
        ("row_tokens", 0),
        ("device", "tpu"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_when_the_pass_is_made(tmp_path, name, value):
    with pytest.raises(ValidationError, match=name):
        awq_pass(options(tmp_path, **{name: value}))
