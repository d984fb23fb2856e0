"""Which folds a decoder layer has, by the shape of its architecture, and the proof that they keep what it computes.

Known are layers of llama's shape, with q, k, v and gate, up apart or fused (phi3), biases (qwen2), norms of queries and
keys (qwen3), norms before and after a block, and norms whose weight counts from one (gemma2, gemma3). What makes an
input that cannot be scaled, such as a norm without weight (olmo), leaves the linears behind it to clipping and
compensated rounding.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from passes.activation_aware.fold import Fixed, Fold, Norm, Rows
from press.core.errors import UserError

CHANGE = 1e-3  # of a layer's output by scaling, relative to what the layer adds to its input
ROUNDING = 1e-6  # of fp32, relative to the whole output


def folds(layer: nn.Module, name: str) -> list[Fold]:
    """Return a decoder layer's folds, in the order of the computation.

    :raises UserError: if the layer is not of a shape that is known
    """
    parts = Parts(layer, name)
    if parts.has("mlp.fc1"):
        return _side_by_side(parts)
    mixing = _attention
    if parts.has("conv"):
        mixing = _convolution
    if parts.has("linear_attn"):
        mixing = _linear_attention
    if parts.has("mamba"):
        mixing = _mamba
    return mixing(parts) + _mlp(parts)


@dataclass
class Parts:
    """A decoder layer's modules, by the names that architectures give them."""

    layer: nn.Module
    name: str

    def find(self, *paths: str) -> str:
        """Return the first of the paths at which the layer has a module."""
        for path in paths:
            if self.has(path):
                return path
        raise UserError(
            f"awq cannot quantize {self.name} ({type(self.layer).__name__}): it has no {paths[0]}, so that it is not "
            "of a shape that awq knows; use rtn or gptq"
        )

    def has(self, path: str) -> bool:
        try:
            self.layer.get_submodule(path)
        except AttributeError:
            return False
        return True

    def linear(self, *paths: str) -> nn.Linear:
        return cast(nn.Linear, self.layer.get_submodule(self.find(*paths)))

    def linears(self, paths: list[str]) -> dict[str, nn.Linear]:
        return {path: self.linear(path) for path in paths}

    def norm(self, *paths: str) -> Norm | Fixed:
        """Return a norm as what makes an input; one without a weight has nothing to fold scales into."""
        norm = self.layer.get_submodule(self.find(*paths))
        return Fixed() if getattr(norm, "weight", None) is None else Norm(norm)


FIRST_NORM = ("input_layernorm", "operator_norm")
SECOND_NORM = ("pre_feedforward_layernorm", "post_attention_layernorm", "ffn_norm")


def _side_by_side(parts: Parts) -> list[Fold]:
    """phi: one norm before attention and MLP, and no gate in the MLP, whose activation does not let scales through."""
    attention = _attention(parts)
    inputs = attention[0].linears | parts.linears(["mlp.fc1"])
    return [Fold(inputs, 4, attention[0].maker), attention[1], Fold(parts.linears(["mlp.fc2"]), 1, Fixed())]


def _attention(parts: Parts) -> list[Fold]:
    attention = parts.layer.get_submodule(parts.find("self_attn"))
    out = parts.find("self_attn.o_proj", "self_attn.out_proj", "self_attn.dense")
    output = parts.linear(out)
    if parts.has("self_attn.qkv_proj"):
        inputs = ["self_attn.qkv_proj"]
        kept = (parts.linear(*inputs).out_features + output.in_features) // 2
    else:
        inputs = [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")]
        kept = 0
    if parts.has("self_attn.v_norm"):
        # gemma4: a norm, which does not let scales through; and some layers take the keys for values, too.
        inputs = [path for path in inputs if parts.has(path)]
        return [Fold(parts.linears(inputs), len(inputs), parts.norm(*FIRST_NORM)), Fold({out: output}, 1, Fixed())]
    return [
        Fold(parts.linears(inputs), 3, parts.norm(*FIRST_NORM)),
        Fold({out: output}, 1, Rows(parts.linear(inputs[-1]), kept), cast(int, attention.head_dim)),
    ]


def _convolution(parts: Parts) -> list[Fold]:
    """lfm2: a projection to gates, gates and values, which a convolution of each channel mixes over the tokens."""
    inputs, out = "conv.in_proj", "conv.out_proj"
    output = parts.linear(out)
    return [
        Fold(parts.linears([inputs]), 3, parts.norm(*FIRST_NORM)),
        Fold({out: output}, 1, Rows(parts.linear(inputs), 2 * output.in_features)),
    ]


def _linear_attention(parts: Parts) -> list[Fold]:
    """qwen3_5: what reads the norm, and the output behind a norm with a gate."""
    inputs = [f"linear_attn.in_proj_{part}" for part in ("qkv", "z", "b", "a")]
    return [
        Fold(parts.linears(inputs), 4, parts.norm(*FIRST_NORM)),
        Fold(parts.linears(["linear_attn.out_proj"]), 1, Fixed()),
    ]


def _mamba(parts: Parts) -> list[Fold]:
    """granitemoehybrid: gates, values, B, C and steps in one, and the output behind a norm."""
    return [
        Fold(parts.linears(["mamba.in_proj"]), 5, parts.norm(*FIRST_NORM)),
        Fold(parts.linears(["mamba.out_proj"]), 1, parts.norm("mamba.norm")),
    ]


def _experts(parts: Parts, block: str) -> list[Fold]:
    """A mixture: each expert reads the tokens that are its own, and the norm before them all, and the router, stays.

    The one that all tokens share reads that norm, too.
    """
    groups = []
    for index in range(len(cast(nn.ModuleList, parts.layer.get_submodule(f"{block}.experts")))):
        groups += _gated(parts, f"{block}.experts.{index}", Fixed())
    shared = next((path for path in (f"{block}.shared_expert", "shared_mlp") if parts.has(path)), None)
    if shared:
        groups += _gated(parts, shared, Fixed())
    gate = f"{block}.shared_expert_gate"
    return [*groups, Fold(parts.linears([gate]), 1, Fixed())] if parts.has(gate) else groups


def _mlp(parts: Parts) -> list[Fold]:
    for block in ("feed_forward", "mlp", "block_sparse_moe"):
        # Those of other architectures are no linears.
        if parts.has(f"{block}.experts.0.w1"):
            return _experts(parts, block)
    mlp = parts.find("mlp", "feed_forward", "shared_mlp")
    if parts.has(f"{mlp}.up_proj") and not parts.has(f"{mlp}.gate_proj"):
        # nemotron: the activation does not let scales through.
        inputs, outputs = parts.linears([f"{mlp}.up_proj"]), parts.linears([f"{mlp}.down_proj"])
        return [Fold(inputs, 1, parts.norm(*SECOND_NORM)), Fold(outputs, 1, Fixed())]
    return _gated(parts, mlp, parts.norm(*SECOND_NORM))


def _gated(parts: Parts, mlp: str, maker: Norm | Fixed) -> list[Fold]:
    down = parts.find(f"{mlp}.down_proj", f"{mlp}.w2", f"{mlp}.output_linear")
    output = parts.linear(down)
    if parts.has(f"{mlp}.gate_up_proj") or parts.has(f"{mlp}.input_linear"):
        inputs, half = [parts.find(f"{mlp}.gate_up_proj", f"{mlp}.input_linear")], output.in_features
    else:
        inputs, half = [parts.find(f"{mlp}.gate_proj", f"{mlp}.w1"), parts.find(f"{mlp}.up_proj", f"{mlp}.w3")], 0
    return [
        Fold(parts.linears(inputs), 2, maker),
        Fold({down: output}, 1, Rows(parts.linear(inputs[-1]), half)),
    ]


@torch.no_grad()
def check_folds(layer: nn.Module, name: str, states: torch.Tensor, arguments: dict) -> None:
    """Scale a copy of a layer by random powers of two, which no floating point rounds, and see its output stay.

    :param states: hidden states of shape (rows, tokens, hidden)
    :param arguments: the layer's other arguments
    :raises UserError: if it does not stay: something else reads what the scales are folded into
    """
    layer = copy.deepcopy(layer).float()
    states, arguments = states.float(), map_tensors(arguments, _in_fp32)
    expected = layer(states, **arguments)
    groups = folds(layer, name)
    weights: dict[nn.Module, torch.Tensor] = {
        linear: linear.weight for group in groups for linear in group.linears.values()
    }
    generator = torch.Generator().manual_seed(0)
    for group in groups:
        powers = torch.randint(-1, 2, (group.maker.channels,), generator=generator)
        group.apply(2.0 ** powers.to(states.device), weights)
    difference = (layer(states, **arguments) - expected).norm()
    update = (expected - states).norm()
    if difference > CHANGE * update + ROUNDING * expected.norm():
        raise UserError(
            f"awq cannot quantize {name} ({type(layer).__name__}): folding scales into its norms and projections "
            f"changes its output by {difference / update:.1%}, so that it is not of a shape that awq knows; use rtn "
            "or gptq"
        )


def map_tensors(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return a layer's argument with each tensor in it replaced by a function of it."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    return tuple(map_tensors(item, function) for item in value) if isinstance(value, tuple) else value


def _in_fp32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
