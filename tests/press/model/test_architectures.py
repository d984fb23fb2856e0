"""An architecture that is not supported is refused before anything is computed or copied, and the others are named."""

from pathlib import Path

import pytest
from transformers import AutoConfig

from press.core import files
from press.core.errors import UserError
from press.model import architectures
from press.params import schema
from press.sources import folder, random_model

NAMES = ", ".join(sorted(architectures.SUPPORTED))
THAT = "that this pipeline supports are"
LONG = {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama"},
        {"model_type": "llama", "rope_scaling": None},
        {"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 32.0}},
        {"model_type": "phi3", "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}},
        {"model_type": "phi3", "rope_parameters": LONG},
        {"model_type": "hunyuan_v1_dense", "rope_scaling": {"type": "dynamic", "alpha": 1000.0}},
        {"model_type": "gemma3_text", "rope_parameters": {"full_attention": {"rope_type": "default"}}},
        *(
            {"model_type": "granitemoehybrid", "time_step_limit": [0.0, most]}
            for most in (float("inf"), {"__float__": "Infinity"})
        ),
    ],
)
def test_a_supported_configuration_is_taken(config):
    architectures.check(config)


@pytest.mark.parametrize("name", architectures.SUPPORTED)
def test_each_architecture_s_own_defaults_are_taken(name):
    config = AutoConfig.for_model(name).to_dict()
    if name == "phi3":
        # Of a configuration without weights; the models' own have it.
        config.setdefault("rope_scaling", None)
    if name == "gemma4_text":
        # By default it has inputs of each layer's own.
        config["hidden_size_per_layer_input"] = 0
    architectures.check(config)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"model_type": "gpt2"}, f"architecture is gpt2, but those {THAT} {NAMES}"),
        ({}, f"architecture is not named, but those {THAT} {NAMES}"),
        (
            {"model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 2.0}},
            f"rotary embeddings are scaled by dynamic, but those of llama {THAT} default, llama3",
        ),
        (
            {"model_type": "hunyuan_v1_dense", "rope_scaling": {"type": "dynamic", "factor": 2.0}},
            f"rotary embeddings are scaled by dynamic, but those of hunyuan_v1_dense {THAT} default, dynamic by alpha",
        ),
        (
            {"model_type": "qwen2", "rope_parameters": LONG},
            f"rotary embeddings are scaled by longrope, but those of qwen2 {THAT} default",
        ),
        (
            {
                "model_type": "gemma3_text",
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0},
                    "sliding_attention": {"rope_type": "default"},
                },
            },
            f"rotary embeddings are scaled by linear, but those of gemma3_text {THAT} default",
        ),
    ],
)
def test_another_is_refused_in_a_sentence_that_lists_what_is_supported(config, sentence):
    with pytest.raises(UserError) as caught:
        architectures.check(config)
    assert str(caught.value) == f"the base model's {sentence}"


@pytest.mark.parametrize("name", architectures.REFUSED)
def test_what_was_tried_and_does_not_work_is_refused_with_the_reason(name):
    with pytest.raises(UserError, match=f"architecture is {name}, which this pipeline does not take: ") as caught:
        architectures.check({"model_type": name})
    assert str(caught.value).endswith(architectures.REFUSED[name])
    assert name not in architectures.SUPPORTED


def test_a_text_part_is_judged_as_a_model_of_its_own():
    architectures.check({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}})
    architectures.check({"model_type": "mistral3", "text_config": {}})
    architectures.check({"model_type": "iquestcoder"})
    architectures.check({"model_type": "qwen3_5_moe", "text_config": {}})
    part = {"model_type": "gemma3_text", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    with pytest.raises(UserError, match="rotary embeddings are scaled by linear, but those of gemma3_text "):
        architectures.check({"model_type": "gemma3", "text_config": part})


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"model_type": "gemma", "use_bidirectional_attention": True},
            "use_bidirectional_attention true, but of gemma this pipeline supports only null or false",
        ),
        (
            {"model_type": "granitemoehybrid", "num_local_experts": 0, "mamba_n_groups": 8},
            "mamba_n_groups 8, but of granitemoehybrid this pipeline supports only null or 1",
        ),
        (
            {"model_type": "gemma4", "text_config": {"model_type": "gemma4_text", "hidden_size_per_layer_input": 256}},
            "hidden_size_per_layer_input 256, but of gemma4_text this pipeline supports only 0: "
            f"{architectures.PER_LAYER}",
        ),
        ({"model_type": "olmo", "clip_qkv": 8.0}, "clip_qkv 8.0, but of olmo this pipeline supports only null"),
    ],
)
def test_a_setting_that_the_graph_would_not_have_is_refused_by_name(config, sentence):
    with pytest.raises(UserError) as caught:
        architectures.check(config)
    assert str(caught.value) == f"the base model's config.json has {sentence}"


def test_a_random_model_is_refused_before_it_is_built(tmp_path):
    with pytest.raises(UserError, match="architecture is vit"):
        random_model.build(schema.RandomSource(config={"model_type": "vit"}), 0, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_refused_before_it_is_copied(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    files.write_json(source / "config.json", {"model_type": "gpt2"})
    with pytest.raises(UserError, match="architecture is gpt2"):
        folder.bring(schema.LocalSource(path=str(source), sha256=""), False, target)
    assert not list(target.iterdir())


def test_a_damaged_config_is_a_sentence(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": ', encoding="utf-8")
    with pytest.raises(UserError, match=r"a damaged or half downloaded config\.json"):
        architectures.read(tmp_path / "config.json")
