"""A checkpoint's weights are those of its architecture and its configuration, and numbers, or a sentence says which is
not."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES, ROPES_AND_WINDOWS, random_model, save
from safetensors.torch import load_file, save_file

from press.core import files
from press.core.errors import UserError
from press.model import checkpoints, weights

Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
SHAPES = {"model.embed_tokens.weight": (259, 64), "model.layers.0.x": (1,), "model.layers.1.x": (1,)}


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may change."""
    return shutil.copytree(tiny_base, tmp_path / "base")


def change_weights(base: Path, change) -> None:
    """Let a function change the tensors of a checkpoint in place."""
    tensors = load_file(base / checkpoints.SINGLE)
    change(tensors)
    save_file(tensors, base / checkpoints.SINGLE, {"format": "pt"})


def change_config(base: Path, **changes: object) -> None:
    files.write_json(base / "config.json", files.read_json(base / "config.json") | changes)


def refusal(base: Path) -> str:
    """Return the sentence about a checkpoint."""
    with pytest.raises(UserError) as caught:
        weights.check(base, trust=False)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.integration
@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("name", [name for name in {**ARCHITECTURES, **ROPES_AND_WINDOWS} if name != "stablelm"])
def test_a_whole_checkpoint_of_each_architecture_is_taken(tmp_path, name, tie):
    weights.check(save(random_model(name, tie_word_embeddings=tie), tmp_path), trust=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_and_in_parts_are_taken(base, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(base / checkpoints.SINGLE).items()}
    table = {}
    for index, (name, tensor) in enumerate(tensors.items()):
        table[name] = f"model-{index}.safetensors"
        save_file({name: tensor}, base / table[name])
    (base / checkpoints.INDEX).write_text(json.dumps({"weight_map": table}), encoding="utf-8")
    (base / checkpoints.SINGLE).unlink()
    weights.check(base, trust=False)


def test_a_weight_by_another_name_is_missing(base):
    change_weights(base, lambda tensors: tensors.update({f"{Q_PROJ}s": tensors.pop(Q_PROJ)}))
    assert refusal(base) == (
        f"the base model lacks 1 of its architecture's weights, such as {Q_PROJ}, and has {Q_PROJ}s, which is none of "
        "them: they would be random numbers"
    )


def test_a_weight_that_is_not_there_is_missing(base):
    change_weights(base, lambda tensors: tensors.pop("model.norm.weight"))
    assert refusal(base) == (
        "the base model lacks 1 of its architecture's weights, such as model.norm.weight: they would be random numbers"
    )


def test_a_head_that_is_not_tied_is_missing(base):
    change_config(base, tie_word_embeddings=False)
    assert "such as lm_head.weight: they would be random numbers" in refusal(base)


def test_a_weight_that_the_architecture_has_no_place_for_is_named(base):
    change_weights(base, lambda tensors: tensors.update({Q_PROJ.replace("weight", "bias"): torch.ones(64)}))
    assert refusal(base) == (
        "the base model has 1 weights that its architecture and config.json have no place for, such as "
        "model.layers.1.self_attn.q_proj.bias: without them it would be another model"
    )


def test_tables_that_are_computed_since_are_no_weights(base):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_weights(base, lambda tensors: tensors.update({name: torch.ones(8)}))
    weights.check(base, trust=False)


def test_a_tied_head_is_the_embedding(base):
    change_weights(base, lambda tensors: tensors.update({"lm_head.weight": tensors[weights.EMBEDDING].clone()}))
    weights.check(base, trust=False)
    change_weights(base, lambda tensors: tensors["lm_head.weight"].neg_())
    assert refusal(base) == (
        "the base model's lm_head.weight and model.embed_tokens.weight differ, but are one and the same by its "
        "config.json (tie_word_embeddings)"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("name", ["model.norm.weight", Q_PROJ])
def test_a_value_that_is_no_number_is_named(base, name, dtype, value):
    def plant(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].flatten()[3] = value
        tensors[name] = tensors[name].to(dtype)

    change_weights(base, plant)
    assert refusal(base) == f"the base model's {name} has values that are no numbers (NaN or infinite)"


@pytest.mark.parametrize(
    ("key", "size", "actual"),
    [
        ("hidden_size", 10**9, 64),
        ("hidden_size", 128, 64),
        ("vocab_size", 10**9, 259),
        ("num_hidden_layers", 10**7, 2),
        ("num_hidden_layers", 1, 2),
    ],
)
def test_a_size_that_is_not_that_of_the_weights_is_named(key, size, actual):
    with pytest.raises(UserError) as caught:
        weights.check_sizes({key: size}, SHAPES)
    assert str(caught.value) == f"the base model's config.json has {key} {size}, but its weights have {actual}"


@pytest.mark.parametrize("key", weights.SIZES)
@pytest.mark.parametrize("size", [-4, 0, 1.5, True, "64", [64], 10**10, 10**30])
def test_a_size_that_is_none_is_named(key, size):
    with pytest.raises(UserError) as caught:
        weights.check_sizes({key: size}, SHAPES)
    assert str(caught.value) == (
        f"in the base model's config.json, {key} is {size!r}, but it must be a whole number from 1 to "
        f"{100_000 if key == 'num_labels' else 2**31 - 1}"
    )


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"rope_theta": 0}, "rope_theta is 0"),
        ({"rope_theta": float("inf")}, "rope_theta is inf"),
        ({"rope_scaling": {"rope_type": "linear", "factor": -2.0}}, "rope_scaling.factor is -2.0"),
        (
            {"rope_parameters": {"sliding_attention": {"rope_theta": float("nan")}}},
            "rope_parameters.sliding_attention.rope_theta is nan",
        ),
        ({"rope_scaling": {"short_factor": [1.0, 0]}}, "rope_scaling.short_factor is 0"),
    ],
)
def test_what_makes_no_number_of_a_position_is_named(config, what):
    with pytest.raises(UserError) as caught:
        weights.check_sizes(config, SHAPES)
    assert str(caught.value) == f"in the base model's config.json, {what}, but it must be a number above 0"


def test_sizes_that_are_not_named_are_no_mistake():
    weights.check_sizes({"hidden_size": 64, "head_dim": None}, SHAPES)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"intermediate_size": 10**9},
            "the base model's model.layers.0.mlp.down_proj.weight has the shape [64, 128], but by its config.json it "
            f"must have [64, {10**9}]",
        ),
        (
            {"num_key_value_heads": 4},
            "the base model's model.layers.0.self_attn.k_proj.weight has the shape [32, 64], but by its config.json it "
            "must have [64, 64]",
        ),
        ({"head_dim": 10**18}, "in the base model's config.json, head_dim is 1000000000000000000, but it must be a "),
        ({"hidden_act": "none"}, "the base model's config.json cannot be read (KeyError: "),
        (
            {"quantization_config": {"quant_method": "olive", "bits": 4, "symmetric": True, "group_size": 32}},
            "the base model lacks 28 of its architecture's weights, such as model.layers.0.mlp.down_proj.qweight, and "
            "has model.layers.0.mlp.down_proj.weight, which is none of them",
        ),
    ],
)
def test_a_configuration_of_another_model_is_a_sentence(base, changes, sentence):
    change_config(base, **changes)
    assert refusal(base).startswith(sentence)
