"""Of a model that also sees, the part for text is taken: it answers as the whole model does, and the rest is named."""

import re

import pytest
import torch
from architectures import LOCAL_AND_GLOBAL, SHAPE, TOKENIZER
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from press.core import files
from press.core.errors import UserError
from press.model import architectures, checkpoints, weights
from press.sources import experts_apart, integers, text_part

pytestmark = pytest.mark.integration
TEXT = {key: value for key, value in SHAPE.items() if key != "tie_word_embeddings"}
SEEN = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "depth": 1}
SEEN |= {"image_size": 28, "patch_size": 14, "out_hidden_size": 64, "num_heads": 2}
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
SLIDING = {"layer_types": ["linear_attention", "full_attention"]}
GEMMA_4 = {**LOCAL_AND_GLOBAL, "global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": True}
WHOLE = {
    "gemma3": LOCAL_AND_GLOBAL,
    "gemma4": GEMMA_4 | {"hidden_size_per_layer_input": 0},
    "gemma4_unified": GEMMA_4,
    "lfm2_vl": {"layer_types": ["conv", "full_attention"], "block_multiple_of": 16},
    "mistral3": {},
    "qwen2_5_vl": {"rope_parameters": ROPE},
    "qwen3_5": {**SLIDING, "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}},
    "qwen3_vl": {"rope_parameters": ROPE},
}
WHOLE["qwen3_5_moe"] = {
    **WHOLE["qwen3_5"],
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 64,
}


def whole_model(name: str, tie: bool) -> torch.nn.Module:
    text = {**TEXT, "model_type": architectures.WITH_OTHER_PARTS[name], **WHOLE[name]}
    config = AutoConfig.for_model(name, text_config=text, vision_config=SEEN, tie_word_embeddings=tie)
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config).eval()


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "apart"])
@pytest.mark.parametrize("name", WHOLE)
def test_it_says_of_a_text_what_the_whole_model_does(tmp_path, capsys, name, tie):
    model, ids = whole_model(name, tie), torch.tensor([list(range(40, 80))])
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    TOKENIZER.save_pretrained(tmp_path)
    architectures.read(tmp_path / "config.json")
    text_part.keep(tmp_path)
    experts_apart.bring(tmp_path)
    architectures.read(tmp_path / "config.json")
    weights.check(tmp_path, False)
    part = checkpoints.load(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(part(input_ids=ids).logits, expected)
    assert re.search(
        rf"note: of the base model, a {name}, its text part is taken, a \w+; left out", capsys.readouterr().out
    )
    assert sum(each.numel() for each in part.parameters()) < sum(each.numel() for each in model.parameters())


def test_another_name_of_the_same_architecture_is_replaced(tmp_path):
    config = AutoConfig.for_model("internlm3", **TEXT, qkv_bias=True, bias=True)
    torch.manual_seed(0)
    model, ids = AutoModelForCausalLM.from_config(config).eval(), torch.tensor([list(range(40, 80))])
    model.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").stat().st_ino
    text_part.keep(tmp_path)
    assert architectures.read(tmp_path / "config.json")["model_type"] == "llama"
    assert (tmp_path / "model.safetensors").stat().st_ino == before
    with torch.no_grad():
        torch.testing.assert_close(checkpoints.load(tmp_path)(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize("block", [None, [], "x"])
def test_a_configuration_without_that_part_is_a_sentence(block):
    with pytest.raises(UserError, match=r"config\.json is of a gemma3, but has no block text_config"):
        architectures.check({"model_type": "gemma3", "text_config": block})


def test_a_quantized_model_is_still_refused_as_one(tmp_path):
    whole_model("lfm2_vl", True).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    files.write_json(path, files.read_json(path) | {"quantization_config": {"quant_method": "fp8"}})
    text_part.keep(tmp_path)
    with pytest.raises(UserError, match="fp8"):
        integers.bring(tmp_path)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("model.language_model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("language_model.model.norm.weight", "model.norm.weight"),
        ("model.embed_tokens.weight", "model.embed_tokens.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("model.visual.blocks.0.norm1.weight", None),
        ("vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", None),
        ("model.vision_tower.layers.0.norm.weight", None),
        ("mtp.layers.0.mlp.up_proj.weight", None),
    ],
)
def test_weights_have_the_names_of_transformers_5_or_those_before(name, own):
    assert text_part.own_name(name) == own
