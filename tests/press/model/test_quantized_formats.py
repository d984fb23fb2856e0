"""What config.json says of quantized weights: taken, or refused by the method's and the format's name."""

import pytest
from quantized_checkpoints import config

from press.core.errors import UserError
from press.model.quantized_formats import Scheme, of

GPTQ, AWQ = config("gptq", 4, 128, True), config("gemm", 4, 128, False)
PACKED = config("pack-quantized", 4, 128, False)


def group(**changes: object) -> dict:
    weights = PACKED["config_groups"]["group_0"]
    return PACKED | {"config_groups": {"group_0": weights | changes}}


def weights(**changes: object) -> dict:
    return group(weights=PACKED["config_groups"]["group_0"]["weights"] | changes)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (GPTQ, Scheme("gptq", "gptq", 4, 128, True)),
        (
            {key: value for key, value in GPTQ.items() if key != "checkpoint_format"},
            Scheme("gptq", "gptq", 4, 128, True),
        ),
        (AWQ, Scheme("awq", "gemm", 4, 128, False)),
        (AWQ | {"version": "GEMM", "backend": "autoawq"}, Scheme("awq", "gemm", 4, 128, False)),
        (PACKED, Scheme("compressed-tensors", "pack-quantized", 4, 128, False)),
        (config("int-quantized", 8, -1, True), Scheme("compressed-tensors", "int-quantized", 8, -1, True)),
        (
            {"quant_method": "olive", "bits": 8, "group_size": 32, "symmetric": False, "overrides": None},
            Scheme("olive", "olive", 8, 32, False),
        ),
    ],
)
def test_what_is_taken(given, expected):
    assert of({"quantization_config": given}) == expected


def test_plain_weights_have_no_scheme():
    assert of({"model_type": "llama"}) is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"quant_method": "fp8"}, "fp8, of which only awq, compressed-tensors, gptq, olive are taken"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, of which only awq, "),
        ({}, "an unnamed method, of which only awq, "),
        ("int4", "an unnamed method, of which only awq, "),
        (GPTQ | {"bits": 3}, "gptq, in 3 bits, but the pipeline stores 4 or 8"),
        (GPTQ | {"bits": None}, "gptq, with bits None and group_size 128, which are no numbers"),
        (GPTQ | {"checkpoint_format": "marlin"}, "gptq, in the format marlin, of which gptq and gptq_v2 are taken"),
        (GPTQ | {"dynamic": {"-:lm_head": {}}}, "gptq, with settings of their own for some layers (dynamic)"),
        (AWQ | {"version": "gemv"}, "awq, in the format gemv, of which AutoAWQ's gemm is taken"),
        (AWQ | {"backend": "llm-awq"}, "awq, in the format llm-awq, of which AutoAWQ's gemm is taken"),
        (PACKED | {"format": "float-quantized"}, "compressed-tensors, in the format float-quantized, of which pack-"),
        (PACKED | {"transform_config": {"config_groups": {"u": {}}}}, "compressed-tensors, with transform_config, "),
        (PACKED | {"kv_cache_scheme": {"num_bits": 8}}, "compressed-tensors, with kv_cache_scheme, which is not taken"),
        (weights(strategy="tensor"), "compressed-tensors, as int by tensor, of which int by group or channel is taken"),
        (weights(type="float"), "compressed-tensors, as float by group, of which int by group or channel is taken"),
        (group(input_activations={"num_bits": 8, "dynamic": False}), "compressed-tensors, with input_activations of "),
        (PACKED | {"config_groups": {}}, "compressed-tensors, with other settings for some layers than for the rest"),
        (
            {"quant_method": "olive", "bits": 4, "group_size": 32, "symmetric": False, "lm_head": True},
            "olive, but not all of its decoder layers, and nothing else, alike",
        ),
    ],
)
def test_what_is_not_taken_is_a_sentence(given, sentence):
    with pytest.raises(UserError) as caught:
        of({"quantization_config": given})
    assert str(caught.value).startswith(f"the base model is quantized already by {sentence}")
    assert str(caught.value).endswith(
        ": name the checkpoint that it was made from, or one in a format that is taken (docs/models.md)"
    )
