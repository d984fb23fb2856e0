"""Quantizing a tiny model by every algorithm, and what is refused."""

import shutil

import pytest
import torch
from projects import ROOT

from press.core import files
from press.core.errors import UserError
from press.model import checkpoints, quantization
from press.params import schema, settings

pytestmark = pytest.mark.integration
PARAMS = settings.load(ROOT / "params.yaml").quantize
ROWS = PARAMS.calibration.model_copy(update={"data": str(ROOT / PARAMS.calibration.data), "rows": 2, "row_tokens": 64})


@pytest.mark.parametrize("algorithm", ["awq", "rtn", "gptq", "kquant"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_each_algorithm_gives_a_checkpoint_near_its_base(tiny_base, in_root, algorithm, symmetric, bits):
    params = PARAMS.model_copy(
        update={"algorithm": algorithm, "symmetric": symmetric, "bits": bits, "calibration": ROWS}
    )
    result = quantization.quantize(params, tiny_base, in_root, 0)
    config = checkpoints.load(result).config.quantization_config
    assert (config.bits, config.symmetric, config.group_size) == (bits, symmetric, 32)
    ids = torch.arange(32, 96)[None]
    with torch.inference_mode():
        before, after = (model(ids).logits for model in (checkpoints.load(tiny_base), plain(result)))
    error = (torch.linalg.norm(before - after) / torch.linalg.norm(before)).item()
    assert 0 < error < {4: 1.0, 8: 0.1}[bits]


@pytest.mark.parametrize("algorithm", quantization.PASSES)
@pytest.mark.parametrize(
    ("method", "chosen"),
    [("k_quant_down", {"down_proj"}), ("k_quant_mixed", {"down_proj", "q_proj", "k_proj", "v_proj"})],
)
def test_the_chosen_layers_have_8_bits(tiny_base, in_root, algorithm, method, chosen):
    precision = schema.MixedPrecision(method=method, share=0.25)
    some = {"algorithm": algorithm, "mixed_precision": precision, "calibration": ROWS}
    result = quantization.quantize(PARAMS.model_copy(update=some), tiny_base, in_root, 0)
    model = checkpoints.load(result)
    bits = {name: module.quantizer.bits for name, module in model.named_modules() if hasattr(module, "quantizer")}
    # Of two layers the first.
    assert {name for name in bits if ".layers.0." in name and name.split(".")[-1] in chosen} == {
        name for name, own in bits.items() if own == 8
    }
    assert set(bits.values()) == {4, 8}


def test_more_of_the_weights_have_8_bits_where_the_share_is_larger(tiny_base, in_root):
    sizes = []
    for share in (0.2, 0.6):
        precision = schema.MixedPrecision(method="iqe", share=share)
        params = PARAMS.model_copy(update={"algorithm": "rtn", "mixed_precision": precision})
        result = quantization.quantize(params, tiny_base, in_root, 0)
        sizes.append((result / "model.safetensors").stat().st_size)
        files.remove(in_root / "olive")
    assert sizes[0] < sizes[1]


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
        quantization.quantize(params, tiny_base, in_root, 0)
    assert not (in_root / "run.json").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bits": 8}, "quantize.bits is 8, but ONNX Runtime's product of experts is exact for 4 bits alone"),
        (
            {"mixed_precision": schema.MixedPrecision(method="iqe", share=0.25)},
            "quantize.mixed_precision.method is iqe, but the experts of a layer, of which .* must be alike",
        ),
    ],
)
def test_what_the_runtime_s_product_of_experts_does_not_compute_is_refused(tmp_path, change, sentence):
    files.write_json(tmp_path / "config.json", {"model_type": "lfm2_moe"})
    with pytest.raises(UserError, match=sentence):
        quantization.quantize(PARAMS.model_copy(update=change), tmp_path, tmp_path, 0)


def test_too_little_calibration_text_ends_in_the_passs_own_sentence(tiny_base, in_root):
    few = ROWS.model_copy(update={"rows": 10**6})
    params = PARAMS.model_copy(update={"algorithm": "gptq", "calibration": few})
    with pytest.raises(UserError, match=r"quantize.calibration needs 64000000 for 1000000 rows of 64"):
        quantization.quantize(params, tiny_base, in_root, 0)


def test_a_model_s_own_code_runs_only_where_it_is_trusted(tiny_base, in_root):
    config = files.read_json(tiny_base / "tokenizer_config.json")
    base = shutil.copytree(tiny_base, in_root / "base")
    (base / "tokenizer_x.py").write_text(
        "import pathlib\n\nfrom transformers import PreTrainedTokenizerFast\n\npathlib.Path('ran').touch()\n\n\n"
        "class T(PreTrainedTokenizerFast):\n    pass\n",
        encoding="utf-8",
    )
    files.write_json(base / "tokenizer_config.json", config | {"auto_map": {"AutoTokenizer": [None, "tokenizer_x.T"]}})
    params = PARAMS.model_copy(update={"algorithm": "awq", "calibration": ROWS})
    for trust in (False, True):
        building = in_root / f"trust-{trust}"
        building.mkdir()
        quantization.quantize(params, base, building, 0, trust)
        assert (in_root / "ran").exists() is trust
