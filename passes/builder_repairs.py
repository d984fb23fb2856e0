"""What onnxruntime-genai 0.18's model builder gets wrong for some models or providers, made right.

Each repair leaves alone what is right already. tests/test_architectures.py or tests/test_targets.py fails without any
one of them.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partialmethod
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import onnx_ir as ir
import torch
from olive.common.quant.nn import QuantLinear
from onnxruntime_genai.models import builder
from onnxruntime_genai.models.builders.base import Model
from onnxruntime_genai.models.builders.gemma import Gemma4Model
from onnxruntime_genai.models.builders.granite import GraniteMoEHybridModel
from onnxruntime_genai.models.builders.lfm2 import LFM2Model, LFM2MoEModel
from onnxruntime_genai.models.builders.mistral import MistralModel
from onnxruntime_genai.models.builders.nemotron import NemotronModel
from onnxruntime_genai.models.builders.olmo import OLMoModel
from onnxruntime_genai.models.builders.phi import PhiModel
from onnxruntime_genai.models.builders.qwen import Qwen35TextModel
from onnxruntime_genai.models.builders.smollm import SmolLM3Model
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from press.model import checkpoints

PACKED = (("self_attn", ("q_proj", "k_proj", "v_proj")), ("mlp", ("gate_proj", "up_proj")))
CALLED = {
    "Gemma4ForCausalLM": "Gemma4UnifiedForConditionalGeneration",
    "MinistralForCausalLM": "MistralForCausalLM",
    "Ministral3ForCausalLM": "MistralForCausalLM",
    "Qwen3_5ForCausalLM": "Qwen3_5ForConditionalGeneration",
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


class GraniteHybrid(GraniteMoEHybridModel):
    """Layers whose names the builder's loader of quantized checkpoints does not know, with gate and up in one; layers
    of Mamba 2, for which the builder has no code, as linear attention; and attention without rope."""

    def __init__(self, config: PretrainedConfig, *arguments: Any) -> None:
        if "linear_attention" in config.layer_types:
            # By these names the builder makes the states.
            config.linear_num_key_heads, config.linear_num_value_heads = config.mamba_n_groups, config.mamba_n_heads
            config.linear_key_head_dim, config.linear_value_head_dim = config.mamba_d_state, config.mamba_d_head
            config.linear_conv_kernel_dim = config.mamba_d_conv
        super().__init__(config, *arguments)
        if config.position_embedding_type != "rope":
            self.attention_attrs |= {"rope": False, "use_rope_in_attn": False}
        self.mamba: Any = None

    def load_weights(self, input_path: str) -> torch.nn.Module:
        return load_modules(input_path)

    def make_mlp_unpacked_regular(self, layer_id: int, mlp: Any, gate_up_linear: Any, root_input: str) -> None:
        if hasattr(gate_up_linear, "qweight"):
            mlp.gate_proj, mlp.up_proj = halves(gate_up_linear)
        else:
            super().make_mlp_unpacked_regular(layer_id, mlp, gate_up_linear, root_input)

    def make_layer(self, layer_id: int, layer: Any) -> None:
        self.mamba = layer.mamba
        super().make_layer(layer_id, layer)

    def make_attention(self, layer_id: int, attention: Any, root_input: str, **options: Any) -> None:
        if self.mamba is None:
            super().make_attention(layer_id, attention, root_input, **options)
        else:
            self.make_mamba(layer_id, self.mamba, root_input)

    def make_mamba(self, layer_id: int, mamba: Any, root_input: str) -> None:
        """Write a layer of Mamba 2, S = exp(A dt) S + B (dt x) and y = C S + D x, as linear attention with a gate."""
        name, weights = f"/model/layers.{layer_id}/mamba", f"model.layers.{layer_id}.mamba"
        width, heads, groups = self.linear_value_dim, self.linear_num_value_heads, self.linear_key_dim
        projected = f"{self.make_matmul(mamba.in_proj, f'{name}/in_proj/MatMul', root_input)}/output_0"
        gate, mixed, steps = self._split(f"{name}/Split", projected, [width, self.linear_conv_dim, heads])
        mixed = self._transposed(f"{name}/conv/Transpose_1", mixed, [self.linear_conv_dim, "sequence_length"])
        kernel, bias = f"{weights}.conv1d.weight", f"{weights}.conv1d.bias"
        self.make_initializer(mamba.conv1d.weight, kernel, to=self.io_dtype)
        none = torch.zeros(self.linear_conv_dim)
        self.make_initializer(none if mamba.conv1d.bias is None else mamba.conv1d.bias, bias, to=self.io_dtype)
        self.make_causal_conv_with_state(
            f"{name}/conv/CausalConvWithState",
            root_input=mixed,
            weight=kernel,
            bias=bias,
            past_conv_state=self.input_names["past.conv"][layer_id],
            present_conv_state=self.output_names["present.conv"][layer_id],
            channels=self.linear_conv_dim,
        )
        mixed = f"{name}/conv/CausalConvWithState/output_0"
        mixed = self._transposed(f"{name}/conv/Transpose_2", mixed, ["sequence_length", self.linear_conv_dim])
        values, keys, queries = self._split(f"{name}/conv/Split", mixed, [width, groups, groups])
        steps, decay = self._steps(name, weights, mamba, steps)
        by_head = [heads, self.linear_value_head_dim]
        values = self._reshaped(f"{name}/x/Reshape", values, by_head)
        stepped = self._times(
            f"{name}/dt_x/Mul", values, self._reshaped(f"{name}/dt/Reshape", steps, [heads, 1]), by_head
        )
        self.make_linear_attention(
            f"{name}/LinearAttention",
            q_path=queries,
            k_path=keys,
            v_path=self._reshaped(f"{name}/dt_x/Reshape", stepped, [width]),
            past_recurrent_state=self.input_names["past.recurrent"][layer_id],
            present_recurrent_state=self.output_names["present.recurrent"][layer_id],
            decay=decay,
            beta="",
            q_num_heads=self.linear_num_key_heads,
            kv_num_heads=heads,
            update_rule="gated",
            scale=1.0,
        )
        self.make_initializer(mamba.D[:, None], f"{weights}.D", to=self.io_dtype)
        kept = self._times(f"{name}/D/Mul", values, f"{weights}.D", by_head)
        terms = [f"{name}/LinearAttention/output_0", self._reshaped(f"{name}/D/Reshape", kept, [width])]
        shape = ["batch_size", "sequence_length", width]
        self.make_add(f"{name}/D/Add", terms, dtype=self.io_dtype, shape=shape)
        self.make_sigmoid(f"{name}/gate/Sigmoid", gate, self.io_dtype, shape)
        gate = self._times(f"{name}/gate/Mul_1", gate, f"{name}/gate/Sigmoid/output_0", [width])
        gated = self._times(f"{name}/gate/Mul_2", f"{name}/D/Add/output_0", gate, [width])
        self.make_initializer(mamba.norm.weight, f"{weights}.norm.weight", to=self.io_dtype)
        norm = {"epsilon": mamba.norm.variance_epsilon, "axis": -1, "stash_type": 1}
        normed = f"{name}/norm/SimplifiedLayerNormalization"
        inputs = [gated, f"{weights}.norm.weight"]
        self.make_node("SimplifiedLayerNormalization", inputs, outputs=[f"{normed}/output_0"], name=normed, **norm)
        self.make_value(f"{normed}/output_0", self.io_dtype, shape=shape)
        out = self.make_matmul(mamba.out_proj, f"{name}/out_proj/MatMul", f"{normed}/output_0")
        self.layernorm_attrs["skip_input"] = f"{out}/output_0"

    def _steps(self, name: str, weights: str, mamba: Any, steps: str) -> tuple[str, str]:
        """Return dt, the softplus of what was projected and a bias, and A dt."""
        shape = ["batch_size", "sequence_length", self.linear_num_value_heads]
        self.make_initializer(mamba.dt_bias, f"{weights}.dt_bias", to=self.io_dtype)
        self.make_initializer(-mamba.A_log.float().exp(), f"{weights}.A", to=self.io_dtype)
        self.make_add(f"{name}/dt/Add", [steps, f"{weights}.dt_bias"], dtype=self.io_dtype, shape=shape)
        self.make_softplus(f"{name}/dt/Softplus", f"{name}/dt/Add/output_0", self.io_dtype, shape)
        softened = f"{name}/dt/Softplus/output_0"
        return softened, self._times(f"{name}/decay/Mul", softened, f"{weights}.A", shape[2:])

    def _split(self, name: str, root_input: str, widths: list[int]) -> list[str]:
        outputs = [f"{name}/output_{index}" for index in range(len(widths))]
        shapes = [["batch_size", "sequence_length", width] for width in widths]
        inputs = [root_input, f"/model/constants/INT64/{widths}"]
        self.make_split(name, inputs, outputs, [self.io_dtype] * len(widths), shapes, axis=-1)
        return outputs

    def _transposed(self, name: str, root_input: str, shape: list[Any]) -> str:
        self.make_transpose(name, root_input, self.io_dtype, ["batch_size", *shape], [0, 2, 1])
        return f"{name}/output_0"

    def _reshaped(self, name: str, root_input: str, last: list[int]) -> str:
        inputs = [root_input, f"/model/constants/INT64/{[0, 0, *last]}"]
        self.make_reshape(name, inputs, self.io_dtype, ["batch_size", "sequence_length", *last])
        return f"{name}/output_0"

    def _times(self, name: str, one: str, other: str, last: list[Any]) -> str:
        self.make_mul(name, [one, other], dtype=self.io_dtype, shape=["batch_size", "sequence_length", *last])
        return f"{name}/output_0"


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


def load_modules(checkpoint: str, in_floats: tuple[str, ...] = ()) -> torch.nn.Module:
    """Load a checkpoint as transformers' own modules, with quantized linears in the builder's form.

    :param in_floats: last parts of the names of linears that the builder takes in floats alone
    """
    model = checkpoints.load(Path(checkpoint))
    for name, module in list(model.named_modules()):
        if isinstance(module, QuantLinear):
            plain = name.rpartition(".")[2] in in_floats
            model.set_submodule(name, checkpoints.dequantized(module) if plain else packed(module))
    return model


def packed(linear: QuantLinear) -> torch.nn.Module:
    """Return a quantized linear of Olive's as the builder's own loader has it: of MatMulNBits' shapes."""
    size = linear.quantizer.group_size
    return _module(
        bits=linear.quantizer.bits,
        group_size=size,
        in_features=linear.cols,
        out_features=linear.rows,
        g_idx=None,
        qweight=linear.qweight.reshape(linear.rows, linear.cols // size, -1),
        scales=linear.scales.flatten(),
        qzeros=None if linear.qzeros is None else linear.qzeros.flatten(),
        bias=linear.bias,
    )


def halves(linear: Any) -> list[torch.nn.Module]:
    """Return the first and the last half of the rows of what `packed` gave."""
    same = {name: getattr(linear, name) for name in ("bits", "group_size", "in_features", "g_idx")}
    rows = {name: getattr(linear, name) for name in ("qweight", "scales", "qzeros", "bias")}
    split = {name: (None, None) if value is None else value.chunk(2) for name, value in rows.items()}
    return [
        _module(**same, out_features=linear.out_features // 2, **{name: parts[half] for name, parts in split.items()})
        for half in (0, 1)
    ]


def stacked(experts: Any) -> torch.nn.Module:
    """Return a layer's experts, whose linears are what `packed` gave, in the form that the operator QMoE takes.

    Rows of gate and up take turns.
    """

    def rows(linear: Any, name: str) -> torch.Tensor:
        return getattr(linear, name).reshape(linear.out_features, -1)

    def tensors(name: str) -> dict[str, torch.Tensor | None]:
        field = {"qzeros": "zero_points"}.get(name, name)
        if getattr(experts[0].w2, name) is None:
            return {f"gate_up_{field}": None, f"down_{field}": None}
        both = [torch.stack([rows(each.w1, name), rows(each.w3, name)], dim=1).flatten(0, 1) for each in experts]
        return {
            f"gate_up_{field}": torch.stack(both),
            f"down_{field}": torch.stack([rows(each.w2, name) for each in experts]),
        }

    return _module(
        quant_type="int",
        block_size=experts[0].w2.group_size,
        weights_prepacked=None,
        scale_dtype=None,
        scales_raw=False,
        gate_up_global_scales=None,
        down_global_scales=None,
        **tensors("qweight"),
        **tensors("scales"),
        **tensors("qzeros"),
    )


def _module(**fields: Any) -> torch.nn.Module:
    module = torch.nn.Module()
    for name, value in fields.items():
        setattr(module, name, value)
    return module


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
