"""The awq pass: what it writes is what it computed, better than plain rounding, or one sentence says why not."""

import math
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES, random_model, save
from conftest import ROOT
from olive.common.quant.nn import QuantLinear
from olive.common.quant.utils import WeightQuantizer
from olive.data.registry import Registry
from olive.model import HfModelHandler
from olive.passes.olive_pass import Pass, create_pass_from_dict
from olive.passes.pytorch import train_utils
from olive.passes.pytorch.quant_utils import prepare_model
from pydantic import ValidationError
from torch import nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from passes import awq
from passes.activation_aware import quantization, search
from passes.activation_aware.calibration import choose_rows
from press import checkpoints, files, olive_run, settings
from press.errors import UserError
from stages import quantize

CALIBRATION = settings.load(ROOT / "params.yaml").quantize.calibration
ROWS = CALIBRATION.model_copy(update={"data": str(ROOT / CALIBRATION.data), "rows": 4, "row_tokens": 64})
OPTIONS = {"group_size": 32, "rows": 4, "row_tokens": 64, "device": "cpu"}
IDS = torch.randint(32, 256, (4, 64), generator=torch.Generator().manual_seed(0))
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


def options(base: Path, **changes: object) -> dict:
    return {**OPTIONS, "data_config": quantize.calibration_config(ROWS, base), **changes}


def awq_pass(config: dict) -> Pass:
    return create_pass_from_dict(awq.Awq, config, disable_search=True)


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


def refuse(base: Path, match: str, **changes: object) -> None:
    """Run the pass and see that it ends in a sentence of one line."""
    with pytest.raises(UserError, match=match) as caught:
        awq_pass(options(base, **changes)).run(HfModelHandler(str(base)), str(base / "quantized"))
    assert "\n" not in str(caught.value)


@pytest.fixture
def llama(in_root: Path) -> Path:
    return save(random_model("llama"), in_root / "llama")


@pytest.mark.parametrize(("name", "dtype", "bits", "symmetric"), RUNS)
def test_the_checkpoint_gives_the_logits_of_the_pass_s_own_result(in_root, name, dtype, bits, symmetric):
    base = save(random_model(name, dtype), in_root / "base")
    config = options(base, bits=bits, sym=symmetric)
    expected = logits(in_memory(base, config))
    result = checkpoints.load(by_olive(base, config, in_root / "building"))
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
        ("cohere", "post_attention_layernorm"),
        ("gpt_neox", "self_attn"),
        ("gpt2", "self_attn"),
        ("mixtral", r"mlp\.down_proj"),
        ("olmo2", "input_layernorm"),
    ],
)
def test_a_layer_of_another_shape_is_refused(in_root, name, missing):
    refuse(save(random_model(name), in_root / "base"), rf"cannot quantize .*: it has no {missing}, .* use rtn or gptq")


def test_a_layer_whose_norm_has_no_weight_is_refused(in_root):
    refuse(save(random_model("olmo"), in_root / "base"), "cannot quantize .* use rtn or gptq")


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
