"""Quantizing a tiny model by every algorithm, and what is refused."""

import pytest
import torch
from conftest import ROOT

from press import checkpoints, settings
from press.errors import UserError
from stages import quantize

PARAMS = settings.load(ROOT / "params.yaml").quantize
ROWS = PARAMS.calibration.model_copy(update={"data": str(ROOT / PARAMS.calibration.data), "rows": 2, "row_tokens": 64})


@pytest.mark.parametrize("algorithm", ["awq", "rtn", "gptq", "kquant"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_each_algorithm_gives_a_checkpoint_near_its_base(tiny_base, in_root, algorithm, symmetric, bits):
    params = PARAMS.model_copy(
        update={"algorithm": algorithm, "symmetric": symmetric, "bits": bits, "calibration": ROWS}
    )
    result = quantize.quantize(params, tiny_base, in_root, 0)
    config = checkpoints.load(result).config.quantization_config
    assert (config.bits, config.symmetric, config.group_size) == (bits, symmetric, 32)
    ids = torch.arange(32, 96)[None]
    with torch.inference_mode():
        before, after = (model(ids).logits for model in (checkpoints.load(tiny_base), plain(result)))
    error = (torch.linalg.norm(before - after) / torch.linalg.norm(before)).item()
    assert 0 < error < {4: 1.0, 8: 0.1}[bits]


def plain(folder):
    return checkpoints.dequantize(checkpoints.load(folder))


def test_dequantizing_keeps_the_function(tiny_quantized):
    ids = torch.arange(32, 96)[None]
    with torch.inference_mode():
        expected = checkpoints.load(tiny_quantized)(ids).logits
        assert torch.equal(plain(tiny_quantized)(ids).logits, expected)


def test_a_group_size_that_does_not_divide_a_layer_is_refused_before_anything_runs(tiny_base, in_root):
    params = PARAMS.model_copy(update={"group_size": 256})
    with pytest.raises(UserError, match=r"quantize\.group_size is 256, but .* is (64|128) wide: choose one"):
        quantize.quantize(params, tiny_base, in_root, 0)
    assert not (in_root / "run.json").exists()


def test_too_little_calibration_text_ends_in_the_passs_own_sentence(tiny_base, in_root):
    few = ROWS.model_copy(update={"rows": 10**6})
    params = PARAMS.model_copy(update={"algorithm": "gptq", "calibration": few})
    with pytest.raises(UserError, match=r"calibration needs 1000000 rows of 64"):
        quantize.quantize(params, tiny_base, in_root, 0)
