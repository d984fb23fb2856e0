"""Granite 4 by onnxruntime-genai's model builder, which has no code for its layers of Mamba 2 and its experts."""

from typing import Any

import torch
from onnxruntime_genai.models.builders.granite import GraniteMoEHybridModel
from transformers import PretrainedConfig

from passes.builder_experts import Mixture
from passes.builder_weights import halves, load_modules


class GraniteHybrid(Mixture, GraniteMoEHybridModel):
    """Layers whose names the builder's loader of quantized checkpoints does not know, with gate and up in one; layers
    of Mamba 2, for which the builder has no code, as linear attention; attention without rope; and experts, which the
    builder leaves out, beside the MLP."""

    def __init__(self, config: PretrainedConfig, *arguments: Any) -> None:
        # The builder puts the width of the MLP into its place.
        self.moe_intermediate_size = config.intermediate_size
        if "linear_attention" in config.layer_types:
            # By these names the builder makes the states.
            config.linear_num_key_heads, config.linear_num_value_heads = config.mamba_n_groups, config.mamba_n_heads
            config.linear_key_head_dim, config.linear_value_head_dim = config.mamba_d_state, config.mamba_d_head
            config.linear_conv_kernel_dim = config.mamba_d_conv
        super().__init__(config, *arguments)
        if config.position_embedding_type != "rope":
            self.attention_attrs |= {"rope": False, "use_rope_in_attn": False}
        self.moe_attrs |= {"activation_type": "swiglu", "swiglu_fusion": 1, "normalize_routing_weights": True}
        self.mamba: Any = None
        self.experts: Any = None

    def load_weights(self, input_path: str) -> torch.nn.Module:
        return load_modules(input_path)

    def make_mlp_unpacked_regular(self, layer_id: int, mlp: Any, gate_up_linear: Any, root_input: str) -> None:
        if hasattr(gate_up_linear, "qweight"):
            mlp.gate_proj, mlp.up_proj = halves(gate_up_linear)
        else:
            super().make_mlp_unpacked_regular(layer_id, mlp, gate_up_linear, root_input)

    def make_layer(self, layer_id: int, layer: Any) -> None:
        self.mamba, self.experts = layer.mamba, layer.block_sparse_moe
        super().make_layer(layer_id, layer)

    def make_mlp(self, layer_id: int, mlp: Any, root_input: str) -> None:
        super().make_mlp(layer_id, mlp, root_input)
        if self.experts is not None:
            terms = [self.layernorm_attrs["skip_input"], self.make_experts(layer_id, self.experts, root_input)]
            name = f"/model/layers.{layer_id}/moe/Add"
            self.make_add(name, terms, dtype=self.io_dtype, shape=self.make_hidden_state_shape())
            self.layernorm_attrs["skip_input"] = f"{name}/output_0"

    def make_experts(self, layer_id: int, moe: Any, root_input: str) -> str:
        name, number = f"/model/layers.{layer_id}/moe", self.moe_attrs["num_experts"]
        self.make_moe_preprocessing(layer_id, moe, root_input)
        router = f"{self.make_matmul(moe.router, f'{name}/router/MatMul', root_input)}/output_0"
        inputs = [router, f"/model/constants/INT64/{[-1, number]}"]
        self.make_reshape(f"{name}/router/Reshape", inputs, dtype=self.io_dtype, shape=self.make_moe_router_shape())
        names = self.make_moe_expert_names(layer_id)
        self.make_moe_op(
            f"{name}/QMoE",
            root_input=root_input,
            router_probs=f"{name}/router/Reshape/output_0",
            weight1=names["gate_up_weight"],
            scales1=names["gate_up_scales"],
            bias1=names["gate_up_bias"],
            weight2=names["down_weight"],
            scales2=names["down_scales"],
            bias2=names["down_bias"],
        )
        return f"{name}/QMoE/output_0"

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
