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
from onnxruntime_genai.models.builders.smollm import SmolLM3Model
from transformers import PretrainedConfig

PACKED = (("self_attn", ("q_proj", "k_proj", "v_proj")), ("mlp", ("gate_proj", "up_proj")))
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
        patches.enter_context(mock.patch.object(builder, "SmolLM3Model", SmolLM3))
        patches.enter_context(mock.patch.object(olive, "repack_quantized_tensors", split_and_repack))
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
    every layer has it; the builder takes it that none has.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    if "full_attention" in rope:
        config.rope_local_base_freq = rope["sliding_attention"]["rope_theta"]
        config.rope_parameters = rope["full_attention"]
    elif "rope_type" in rope:
        rope.setdefault("type", rope["rope_type"])
    if getattr(config, "sliding_window", None) and getattr(config, "layer_types", None) is None:
        config.layer_types = ["sliding_attention"] * config.num_hidden_layers


class SmolLM3(SmolLM3Model):
    """Layers without a rotary embedding: the builder only moves the rotation from the attention to before it."""

    def make_attention(self, layer_id: int, *arguments: object, **options: object) -> None:
        rotates = self.attention_attrs["rope"]
        self.attention_attrs["rope"] = bool(self.no_rope_layers[layer_id])
        super().make_attention(layer_id, *arguments, **options)
        self.attention_attrs["rope"] = rotates


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
