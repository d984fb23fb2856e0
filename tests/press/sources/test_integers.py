"""Integers that other libraries packed are read as they are, and what would be read wrong is refused."""

import pytest
import torch
from quantized_checkpoints import WRITERS, config, random_layer

from press.core.errors import UserError
from press.model import quantized_formats
from press.sources import integers

CASES = [
    ("gptq", 4, 32, True),
    ("gptq_v2", 4, 16, False),
    ("gptq_v2", 8, -1, False),
    ("gemm", 4, 32, False),
    ("pack-quantized", 4, 32, False),
    ("pack-quantized", 8, -1, True),
    ("int-quantized", 8, -1, True),
    ("int-quantized", 8, 32, False),
]


def scheme(layout: str, bits: int, group_size: int, symmetric: bool) -> quantized_formats.Scheme:
    return quantized_formats.of({"quantization_config": config(layout, bits, group_size, symmetric)})


@pytest.mark.parametrize(("layout", "bits", "group_size", "symmetric"), CASES)
def test_codes_scales_and_zero_points_are_those_that_were_packed(layout, bits, group_size, symmetric):
    layer = random_layer(16, 64, bits, group_size, symmetric)
    found = integers.integers(WRITERS[layout](layer, bits), "q_proj", scheme(layout, bits, group_size, symmetric))
    assert found.codes.equal(layer.codes.to(torch.uint8))
    assert found.zeros.equal(layer.zeros.to(torch.uint8))
    assert found.scales.equal(layer.scales.float())


def test_the_older_gptq_stores_zero_points_less_one():
    layer = random_layer(16, 64, 4, 32, symmetric=False)
    found = integers.integers(WRITERS["gptq"](layer, 4), "q_proj", scheme("gptq", 4, 32, False))
    assert found.zeros.equal(layer.zeros.to(torch.uint8))


def test_groups_in_the_order_of_activations_are_refused():
    tensors = WRITERS["gptq_v2"](random_layer(16, 64, 4, 32, symmetric=False), 4)
    tensors["g_idx"] = tensors["g_idx"].flip(0)
    with pytest.raises(UserError, match=r"by gptq, and the groups of q_proj go by the order of its activations \(desc"):
        integers.integers(tensors, "q_proj", scheme("gptq_v2", 4, 32, False))


def test_zero_points_that_libraries_read_differently_are_refused():
    tensors = WRITERS["gptq"](random_layer(16, 64, 4, 32, symmetric=False), 4)
    tensors["qzeros"][0, 0] = -1
    with pytest.raises(UserError, match="zero points that libraries read differently: save it as gptq_v2"):
        integers.integers(tensors, "q_proj", scheme("gptq", 4, 32, False))


@pytest.mark.parametrize(("layout", "bits", "group_size", "symmetric"), CASES[1:5])
@pytest.mark.parametrize("change", ["bits", "group_size", "missing"])
def test_tensors_that_are_not_as_the_configuration_says_are_refused(layout, bits, group_size, symmetric, change):
    tensors = WRITERS[layout](random_layer(16, 64, bits, group_size, symmetric), bits)
    if change == "missing":
        tensors = {key: tensor for key, tensor in tensors.items() if not key.endswith(("scales", "weight_scale"))}
    bits = {4: 8, 8: 4}[bits] if change == "bits" else bits
    group_size = 64 if change == "group_size" and group_size != -1 else 16 if change == "group_size" else group_size
    with pytest.raises(UserError, match=r"^the base model('s q_proj| is quantized already)"):
        integers.integers(tensors, "q_proj", scheme(layout, bits, group_size, symmetric))
