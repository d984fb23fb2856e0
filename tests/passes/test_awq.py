"""The awq pass: what it writes is what it computed, and better than plain rounding."""

from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES, random_model, save
from olive.common.quant.nn import QuantLinear
from olive.common.quant.utils import WeightQuantizer
from olive.model import HfModelHandler
from olive.passes.pytorch import train_utils
from olive.passes.pytorch.quant_utils import prepare_model
from torch import nn
from transformers import PreTrainedModel

from passes.activation_aware import quantization, search
from passes.activation_aware.calibration import choose_rows
from press.core import files
from press.model import checkpoints, olive_run

from .awq_runs import IDS, awq_pass, options

pytestmark = pytest.mark.integration
READERS = {
    "self_attn.q_proj": "input_layernorm",
    "self_attn.k_proj": "input_layernorm",
    "mlp.gate_proj": "post_attention_layernorm",
}
RUNS = [
    *((name, torch.float32, (4, 8)[index % 2], index % 4 > 1) for index, name in enumerate(ARCHITECTURES)),
    ("llama", torch.bfloat16, 4, False),
    ("llama", torch.bfloat16, 8, True),
    ("gemma2", torch.bfloat16, 4, False),
    ("mistral", torch.float16, 4, False),
]


def in_memory(base: Path, config: dict) -> PreTrainedModel:
    """Quantize without saving."""
    handler, config = HfModelHandler(str(base)), awq_pass(config).config
    batches = train_utils.get_calibration_dataset(handler, config.data_config)
    wrapper, _, _ = prepare_model(handler, config)
    with torch.no_grad():
        rows = choose_rows(batches, config.rows, config.row_tokens, config.seed)
        quantization.quantize_layers(wrapper, rows, config, torch.device("cpu"))
    return wrapper.model


def by_olive(base: Path, config: dict, building: Path) -> Path:
    """Quantize as the stage does; return the checkpoint's folder."""
    building.mkdir(exist_ok=True)
    return olive_run.run(olive_run.hf_model(base), {"awq": {"type": "Awq", **config}}, building) / "model"


def logits(model: PreTrainedModel, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.inference_mode():
        return model(ids).logits


@pytest.mark.parametrize(("name", "dtype", "bits", "symmetric"), RUNS)
def test_the_checkpoint_gives_the_logits_of_the_pass_s_own_result(in_root, name, dtype, bits, symmetric):
    base = save(random_model(name, dtype), in_root / "base")
    config = options(base, bits=bits, sym=symmetric)
    # First as the stage does, which tells Olive what architectures call their modules.
    result = checkpoints.load(by_olive(base, config, in_root / "building"))
    expected = logits(in_memory(base, config))
    stored = result.config.quantization_config
    assert (result.dtype, stored.bits, stored.symmetric, stored.group_size) == (dtype, bits, symmetric, 32)
    assert not [layer for layer in result.model.layers.modules() if isinstance(layer, nn.Linear)]
    assert torch.equal(logits(result), expected)
    before = logits(random_model(name, dtype))
    assert 0 < (expected - before).norm() / before.norm() < {4: 0.8, 8: 0.1}[bits]


def test_a_linear_may_have_bits_of_its_own_and_the_head_be_rounded_plainly(llama, in_root):
    name = "model.layers.1.mlp.down_proj"
    config = options(llama, overrides={name: {"bits": 8}}, lm_head=True)
    expected = in_memory(llama, config)
    result = checkpoints.load(by_olive(llama, config, in_root / "building"))
    head = rounded_plainly(expected.lm_head.weight.detach())
    assert torch.equal(result.lm_head.unpack_and_dequantize(*packed(result.lm_head)), head)
    expected.lm_head.weight.data = head
    assert torch.equal(logits(result), logits(expected))
    bits = {path: module.quantizer.bits for path, module in result.named_modules() if isinstance(module, QuantLinear)}
    assert {path for path, each in bits.items() if each == 8} == {name}
    assert len(bits) == 15


def packed(linear: QuantLinear) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return linear.qweight, linear.scales, linear.qzeros


@pytest.mark.parametrize(("rounding", "clip", "share"), [("nearest", False, 0.3), ("compensated", True, 0.05)])
def test_where_some_channels_are_large_it_leaves_a_share_of_plain_roundings_loss(in_root, rounding, clip, share):
    model = random_model("llama", initializer_range=0.02)
    for layer in model.model.layers:
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.weight[[3, 20, 41]] *= 50
    base = save(model, in_root / "base")
    config = options(base, rounding=rounding, clip=clip)
    quantized = in_memory(base, config)
    expected = logits(model)
    before, after = model.model.layers[0], quantized.model.layers[0]
    grams = first_grams(model, config)
    # What reads a norm, and of whose own output nothing is scaled, is worth its values times what the norm has left.
    for path, norm in READERS.items():
        weight, linear = before.get_submodule(path).weight, after.get_submodule(path)
        left = after.get_submodule(norm).weight / before.get_submodule(norm).weight
        ours = linear.unpack_and_dequantize(*packed(linear)) * left
        losses = [search.gram_loss(values - weight, grams[path]) for values in (ours, rounded_plainly(weight))]
        assert losses[0] < share * losses[1]
    for linear in model.model.layers.modules():
        if isinstance(linear, nn.Linear):
            linear.weight.copy_(rounded_plainly(linear.weight))
    assert (logits(quantized) - expected).norm() < 0.7 * (logits(model) - expected).norm()


def rounded_plainly(weight: torch.Tensor) -> torch.Tensor:
    return WeightQuantizer(4, False, 32).fake_quantize(weight)


def first_grams(model: PreTrainedModel, config: dict) -> dict[str, torch.Tensor]:
    """Return the Gram matrix of what each of READERS reads in the first layer, for the calibration rows."""
    batches = train_utils.get_calibration_dataset(None, config["data_config"])
    read = {}
    for path in READERS:
        linear = model.model.layers[0].get_submodule(path)
        linear.register_forward_pre_hook(lambda _, inputs, path=path: read.update({path: inputs[0].flatten(0, -2)}))
    logits(model, choose_rows(batches, 4, 64, 0))
    return {path: tokens.T @ tokens / len(tokens) for path, tokens in read.items()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_a_checkpoint_too(llama, in_root):
    results = [
        by_olive(llama, options(llama, search_rows=8, seed=seed), in_root / f"run{run}")
        for run, seed in enumerate([0, 0, 1])
    ]
    first, again, other = (files.sha256(result / "model.safetensors") for result in results)
    assert first == again
    assert first != other
    assert torch.isfinite(logits(checkpoints.load(results[2]))).all()


def test_only_the_named_linears_are_clipped(llama):
    plain, some, every = (
        {name: module.scales for name, module in in_memory(llama, config).named_modules() if hasattr(module, "qweight")}
        for config in (
            options(llama, clip=False),
            options(llama, clip_modules=["v_proj", "down_proj"]),
            options(llama),
        )
    )
    clipped = {name for name, scales in some.items() if not torch.equal(scales, plain[name])}
    assert clipped == {name for name in plain if name.endswith(("v_proj", "down_proj"))}
    assert all(torch.equal(some[name], every[name]) for name in clipped)
    assert not any(torch.equal(every[name], plain[name]) for name in plain)


@pytest.mark.parametrize("norms", [["input_layernorm"], ["input_layernorm", "post_attention_layernorm"]])
@pytest.mark.parametrize("rounding", ["nearest", "compensated"])
def test_a_block_that_is_put_out_does_not_stop_it(in_root, norms, rounding):
    model = random_model("llama")
    for norm in norms:
        getattr(model.model.layers[0], norm).weight.zero_()
    base = save(model, in_root / "base")
    assert torch.isfinite(logits(in_memory(base, options(base, rounding=rounding)))).all()
