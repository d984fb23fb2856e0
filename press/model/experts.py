"""A mixture's experts as linear layers of their own, which is what quantizers, adapters and checkpoints know.

transformers puts the weights of all experts of a layer into one tensor. The files of a checkpoint have them apart, by
the names that they have here, so that nothing is converted when it is read or written.
"""

import torch
from torch import nn
from torch.nn import functional
from transformers import Lfm2MoeConfig
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.models.lfm2_moe import modeling_lfm2_moe as lfm2_moe


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

    def __init__(self, config: Lfm2MoeConfig) -> None:
        super().__init__(Expert(config.hidden_size, config.moe_intermediate_size) for _ in range(config.num_experts))

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


class Block(lfm2_moe.Lfm2MoeSparseMoeBlock):
    """A layer's router and experts."""

    def __init__(self, config: Lfm2MoeConfig) -> None:
        super().__init__(config)
        self.add_module("experts", Experts(config))


def set_apart() -> None:
    """Let transformers build models with experts of this kind, in this process."""
    lfm2_moe.Lfm2MoeSparseMoeBlock = Block
    register_checkpoint_conversion_mapping("lfm2_moe", [], overwrite=True)
