"""What onnxruntime-genai 0.18's model builder gets wrong for some models or providers, made right.

Each repair leaves alone what is right already. tests/test_architectures.py or tests/test_targets.py fails without any
one of them.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partialmethod
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import onnx_ir as ir
import torch
from onnxruntime_genai.models import builder
from onnxruntime_genai.models.builders.base import Model
from onnxruntime_genai.models.builders.gemma import Gemma4Model
from onnxruntime_genai.models.builders.lfm2 import LFM2Model, LFM2MoEModel
from onnxruntime_genai.models.builders.mistral import MistralModel
from onnxruntime_genai.models.builders.nemotron import NemotronModel
from onnxruntime_genai.models.builders.olmo import OLMoModel
from onnxruntime_genai.models.builders.phi import PhiModel
from onnxruntime_genai.models.builders.qwen import Qwen35MoETextModel, Qwen35TextModel
from onnxruntime_genai.models.builders.smollm import SmolLM3Model
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from passes.builder_experts import Mixture
from passes.builder_granite import GraniteHybrid
from passes.builder_weights import load_modules, stacked

PACKED = (("self_attn", ("q_proj", "k_proj", "v_proj")), ("mlp", ("gate_proj", "up_proj")))
CALLED = {
    "Gemma4ForCausalLM": "Gemma4UnifiedForConditionalGeneration",
    "MinistralForCausalLM": "MistralForCausalLM",
    "Ministral3ForCausalLM": "MistralForCausalLM",
    "Qwen3_5ForCausalLM": "Qwen3_5ForConditionalGeneration",
    "Qwen3_5MoeForCausalLM": "Qwen3_5MoeForConditionalGeneration",
}
TWO_SIGNS = 0x88  # takes 8 from each of the two codes of 4 bits in a byte, in two's complement


@contextmanager
def applied() -> Iterator[None]:
    """Let the builder run with the repairs of its code."""
    olive = _loaders().OliveModel
    repack = olive.repack_quantized_tensors

    def split_and_repack(model: Any, *arguments: object, **options: object) -> None:
        split_zeros(model)
        repack(model, *arguments, **options)

    with ExitStack() as patches:
        for name, repaired in REPAIRED.items():
            patches.enter_context(mock.patch.object(builder, name, repaired))
        qwen = importlib.import_module(builder.Qwen35Model.__module__)
        patches.enter_context(mock.patch.object(qwen, "Qwen35TextModel", Qwen35))
        patches.enter_context(mock.patch.object(qwen, "Qwen35MoETextModel", Qwen35Moe))
        patches.enter_context(mock.patch.object(olive, "repack_quantized_tensors", split_and_repack))
        scaled = partialmethod(scale_exactly, builder.GemmaModel.make_embedding)
        patches.enter_context(mock.patch.object(builder.GemmaModel, "make_embedding", scaled))
        # The builder imports its own modules by two names.
        for model in {builder.LlamaModel.__base__, Model}:
            pack = partialmethod(pack_with_or_without_zeros, model.make_packed_matmul_int4_class)
            patches.enter_context(mock.patch.object(model, "make_packed_matmul_int4_class", pack))
            signed = partialmethod(dequantize_signed, model.make_dequantize_linear)
            patches.enter_context(mock.patch.object(model, "make_dequantize_linear", signed))
            rest = partialmethod(quantize_rest, model.to_nbits)
            patches.enter_context(mock.patch.object(model, "to_nbits", rest))
        yield


def prepare(config: PretrainedConfig) -> None:
    """Put into a config what the builder looks for, in place.

    transformers 5 renamed or moved rope parameters: Phi-3's `type` is `rope_type`, and Gemma 3 has a block of
    them for each kind of layer. And where a config has a window but no list of layers, as Mistral's and Phi-3's,
    every layer has it; the builder takes it that none has. Ministral is Mistral with such a list.
    The builder knows Qwen3.5's and Gemma 4's text models by the name of those with images, and looks for the shape of
    Gemma 4's global layers by names that transformers turns into a list of layers.
    """
    config.architectures = [CALLED.get(name, name) for name in config.architectures or ()]
    rope = getattr(config, "rope_parameters", None) or {}
    if config.model_type == "gemma4_text":
        last = config.per_layer_config[config.layer_types.index("full_attention")]
        config.global_head_dim, config.num_global_key_value_heads = last.head_dim, last.num_key_value_heads
    elif "full_attention" in rope:
        config.rope_local_base_freq = rope["sliding_attention"]["rope_theta"]
        config.rope_parameters = rope["full_attention"]
    elif "rope_type" in rope:
        rope.setdefault("type", rope["rope_type"])
    if getattr(config, "sliding_window", None) and getattr(config, "layer_types", None) is None:
        config.layer_types = ["sliding_attention"] * config.num_hidden_layers


class Gemma4(Gemma4Model):
    """Layers that the builder's loader of quantized checkpoints does not know: with a scale, and of two shapes."""

    def load_weights(self, input_path: str) -> torch.nn.Module:
        return load_modules(input_path)


class Lfm2(LFM2Model):
    """Layers whose names the builder's loader of quantized checkpoints does not know."""

    def load_weights(self, input_path: str) -> torch.nn.Module:
        return load_modules(input_path)


class Lfm2Moe(LFM2MoEModel):
    """Layers whose names the builder's loader of quantized checkpoints does not know, with quantized experts."""

    def load_weights(self, input_path: str) -> torch.nn.Module:
        return load_modules(input_path)

    def make_moe_preprocessing(self, layer_id: int, moe: Any, root_input: str) -> None:
        moe.experts = stacked(moe.experts)
        super().make_moe_preprocessing(layer_id, moe, root_input)


class Mistral(MistralModel):
    """Ministral 3's rope by yarn, of which the builder rounds no bounds, and its queries, which grow with positions."""

    def __init__(self, config: PretrainedConfig, *arguments: Any) -> None:
        rope = getattr(config, "rope_parameters", None) or {}
        self.beta: float = rope.get("llama_4_scaling_beta") or 0.0
        self.step: int = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        self.rope_config = config
        super().__init__(config, *arguments)
        if "rescale_inv_freq" in self.rope_attrs:
            self.frequencies, self.rope_attrs["mscale"] = ROPE_INIT_FUNCTIONS["yarn"](config, "cpu")

    def make_inv_freq_rescaled(self, inv_freq: torch.Tensor) -> torch.Tensor:
        return self.frequencies

    def make_attention_init(self, config: PretrainedConfig) -> None:
        positions = self.input_names["position_ids"]
        super().make_attention_init(config)
        if self.beta:
            self.input_names["position_ids"] = positions
            # The queries must be apart from keys and values.
            self.attention_attrs["use_packed_matmul"] = False

    def make_attention_qk_rope_and_norm(self, layer_id: int, attention: Any, **options: Any) -> Any:
        if self.beta:
            name = f"/model/layers.{layer_id}/attn/q_scale/Mul"
            shape = ["batch_size", "sequence_length", self.q_size]
            self.make_mul(name, [self.attention_attrs["q_path"], self._scale()], dtype=self.io_dtype, shape=shape)
            self.attention_attrs["q_path"] = f"{name}/output_0"
        return super().make_attention_qk_rope_and_norm(layer_id, attention, **options)

    def _scale(self) -> str:
        """Return by what each position's queries are multiplied, looked up in a table once for all layers."""
        output = "/model/q_scale/Gather/output_0"
        if output not in self.values:
            steps = torch.arange(self.context_length) // self.step
            table = "model.q_scale.weight"
            self.make_initializer(1 + self.beta * torch.log1p(steps)[:, None], table, to=self.io_dtype)
            shape = ["batch_size", "sequence_length", 1]
            inputs = [table, self.input_names["position_ids"]]
            self.make_gather("/model/q_scale/Gather", inputs, dtype=self.io_dtype, shape=shape, axis=0)
        return output


class Nemotron(NemotronModel):
    """Norms with the epsilon of the config: the builder looks for it by another name."""

    def __init__(self, config: PretrainedConfig, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        self.layernorm_attrs["epsilon"] = config.norm_eps


class Olmo(OLMoModel):
    """Norms that subtract the mean: the builder makes them root mean square norms, with an epsilon of its own."""

    def make_layernorm(self, layer_id: int, layernorm: Any, skip: bool, simple: bool, location: str) -> None:
        self.layernorm_attrs["epsilon"] = 1e-5
        super().make_layernorm(layer_id, layernorm, skip, False, location)


class Phi(PhiModel):
    """Norms with the epsilon of the config, and names that the builder's loader of quantized ones does not know."""

    def __init__(self, config: PretrainedConfig, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        self.layernorm_attrs["epsilon"] = config.layer_norm_eps

    def load_weights(self, input_path: str) -> torch.nn.Module:
        return load_modules(input_path)


class Qwen35(Qwen35TextModel):
    """Layers of linear attention: names that the builder's loader of quantized checkpoints does not know, gates that
    must be in floats, projections that are read by the name that they have in floats, and lengths without epsilon."""

    def load_weights(self, input_path: str) -> torch.nn.Module:
        return load_modules(input_path, in_floats=("in_proj_a", "in_proj_b"))

    def make_matmul(self, matmul: Any, basename: str, root_input: str, **options: Any) -> str:
        name = super().make_matmul(matmul, basename, root_input, **options)
        if name != basename and "/linear_attn/" in basename:
            made, read = self.values[f"{name}/output_0"], f"{basename}/output_0"
            self.make_node("Identity", inputs=[f"{name}/output_0"], outputs=[read], name=f"{basename}/Identity")
            self.make_value(read, made.dtype, shape=made.shape)
        return name

    def make_lp_normalization(
        self, name: str, root_input: str, dtype: ir.DataType, shape: list[Any], **options: Any
    ) -> None:
        """Divide by the root of the sum of squares and 1e-6: of the width times their mean and its share of that."""
        width, weight, output = shape[-1], f"{name[1:].replace('/', '.')}.weight", f"{name}/output_0"
        self.make_initializer(torch.full((width,), width**-0.5), weight, to=dtype)
        norm = {"epsilon": 1e-6 / width, "axis": -1, "stash_type": 1}
        self.make_node("SimplifiedLayerNormalization", [root_input, weight], outputs=[output], name=name, **norm)
        self.make_value(output, dtype, shape=shape)


class Qwen35Moe(Qwen35, Mixture, Qwen35MoETextModel):
    """The same layers with experts, of which one is shared."""


class SmolLM3(SmolLM3Model):
    """Layers without a rotary embedding: the builder only moves the rotation from the attention to before it."""

    def make_attention(self, layer_id: int, *arguments: object, **options: object) -> None:
        rotates = self.attention_attrs["rope"]
        self.attention_attrs["rope"] = bool(self.no_rope_layers[layer_id])
        super().make_attention(layer_id, *arguments, **options)
        self.attention_attrs["rope"] = rotates


REPAIRED = {
    "Gemma4Model": Gemma4,
    "GraniteMoEHybridModel": GraniteHybrid,
    "LFM2Model": Lfm2,
    "LFM2MoEModel": Lfm2Moe,
    "MistralModel": Mistral,
    "NemotronModel": Nemotron,
    "OLMoModel": Olmo,
    "PhiModel": Phi,
    "SmolLM3Model": SmolLM3,
}


def split_zeros(model: Any) -> None:
    """Hand the zero points of packed projections to the parts whose rows they belong to, in place.

    The builder splits them as if rows were packed two a byte, but columns are.
    """
    for layer in model.layers:
        for block, names in PACKED:
            parts = [getattr(getattr(layer, block), name) for name in names]
            if _have_zeros_of_one_width(parts):
                zeros = torch.cat([part.qzeros for part in parts])
                for part, own in zip(parts, zeros.split([len(part.qweight) for part in parts]), strict=True):
                    part.qzeros = own


def _have_zeros_of_one_width(parts: list[Any]) -> bool:
    """Say whether parts can be of one packed module: zero points of 4 and of 8 bits differ in width."""
    zeros = [part.qzeros for part in parts]
    return all(own is not None and own.numel() for own in zeros) and len({own.shape[1:] for own in zeros}) == 1


def pack_with_or_without_zeros(model: Model, pack: Callable, *projections: Any) -> Any:
    """Pack q, k and v also where they have no zero points: the builder joins these without a look.

    Symmetric quantization leaves none; projections that are not quantized have no such field.
    """
    if any(getattr(each, "qzeros", True) is not None for each in projections):
        return pack(model, *projections)
    for each in projections:
        each.qzeros = torch.empty(0)
    packed = pack(model, *projections)
    packed.qzeros = None
    return packed


def scale_exactly(model: Model, make: Callable, embedding: Any) -> None:
    """Scale embeddings by the root of their width in their own type, as transformers does.

    The builder rounds it to two decimals. What the checkpoint is in, such as bf16, may be coarser still.
    """
    dtype = getattr(embedding, "dtype", None)
    scale = torch.tensor(model.hidden_size**0.5, dtype=dtype if isinstance(dtype, torch.dtype) else torch.float32)
    model.embed_attrs["scale"] = scale.item()
    make(model, embedding)


def dequantize_signed(model: Model, make: Callable, name: str, packed: Any) -> str:
    """Write codes and zero points of 4 bits as the signed integers that DequantizeLinear takes.

    The builder gives it a checkpoint's unsigned ones, of which those from 8 on it reads as negative.
    """
    if model.onnx_dtype != ir.DataType.INT4:
        return make(model, name, packed)
    zeros = getattr(packed, "qzeros", None)
    signed = SimpleNamespace(
        qweight=packed.qweight ^ TWO_SIGNS,
        qzeros=None if zeros is None else zeros ^ TWO_SIGNS,
        scales=packed.scales,
        group_size=packed.group_size,
    )
    return make(model, name, signed)


def quantize_rest(model: Model, quantize: Callable[[Model], ir.Model]) -> ir.Model:
    """Look for what is left to quantize only where something is: the look writes the whole model into one message."""
    kinds, kept = model.quant_attrs["op_types_to_quantize"], model.quant_attrs["nodes_to_exclude"]
    is_left = any(node.op_type in kinds and node.name not in kept for node in model.model.graph)
    return quantize(model) if is_left else model.model


def _loaders() -> ModuleType:
    """Return the builder's module of checkpoint loaders, by the name by which it imports it itself."""
    try:
        return importlib.import_module("loaders.quant_model")
    except ImportError:
        return importlib.import_module("onnxruntime_genai.models.loaders.quant_model")
