"""A mixture's experts as linear layers of their own, which is what quantizers, adapters and checkpoints know.

transformers puts the weights of all experts of a layer into one tensor. In what `fetch` writes they are apart, by the
names that they have here, so that nothing is converted when it is read or written (press/sources/experts_apart.py).
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig
from transformers.conversion_mapping import register_checkpoint_conversion_mapping


@dataclass(frozen=True)
class Kind:
    """Where transformers has an architecture's experts.

    :param folder: of transformers.models
    :param block: the class of a layer's router and experts
    :param inner: the key of config.json for an expert's inner width
    """

    folder: str
    block: str
    inner: str


KINDS = {
    "granitemoehybrid": Kind("granitemoehybrid", "GraniteMoeHybridMoE", "intermediate_size"),
    "lfm2_moe": Kind("lfm2_moe", "Lfm2MoeSparseMoeBlock", "moe_intermediate_size"),
    "qwen3_5_moe_text": Kind("qwen3_5_moe", "Qwen3_5MoeSparseMoeBlock", "moe_intermediate_size"),
}


class Expert(nn.Module):
    """A gated MLP without biases."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, inner, bias=False)
        self.w3 = nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.w2(functional.silu(self.w1(states)) * self.w3(states))


class Experts(nn.ModuleList):
    """What transformers' class of this kind computes: each token's chosen experts, weighted."""

    def __init__(self, number: int, width: int, inner: int) -> None:
        super().__init__(Expert(width, inner) for _ in range(number))

    def forward(self, states: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the sum for each token.

        :param states: (tokens, width)
        :param chosen: int64 of shape (tokens, choices)
        :param weights: (tokens, choices)
        """
        result = torch.zeros_like(states)
        for index, expert in enumerate(self):
            tokens, places = torch.where(chosen == index)
            if len(tokens):
                output = expert(states[tokens]) * weights[tokens, places, None]
                result.index_add_(0, tokens, output.to(result.dtype))
        return result


@cache
def set_apart(model_type: str, number: str) -> type[nn.Module]:
    """Let transformers build an architecture's models with experts of this kind, in this process; return the block.

    :param number: the key of config.json for the number of experts
    """
    kind = KINDS[model_type]
    module = import_module(f"transformers.models.{kind.folder}.modeling_{kind.folder}")
    plain: type[nn.Module] = getattr(module, kind.block)

    class Block(plain):
        """A layer's router and experts."""

        def __init__(self, config: PretrainedConfig) -> None:
            super().__init__(config)
            experts = Experts(getattr(config, number), config.hidden_size, getattr(config, kind.inner))
            self.add_module("experts", experts)

    setattr(module, kind.block, Block)
    register_checkpoint_conversion_mapping(model_type, [], overwrite=True)
    return Block
