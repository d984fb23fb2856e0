"""Rotate a llama checkpoint's residual stream: the same function, by weights that were never near a 4-bit grid.

The default model comes out of a 4-bit file, and its weights still lie near that file's grid, which favours plain
rounding. With an orthogonal matrix Q, embedding and output projections become W Q or Qᵀ W, the norms' weights move
into the linears behind them first (QuaRot, arXiv 2404.00456), and no such grid is left.
"""

import shutil
from pathlib import Path

import torch

from press.model import checkpoints

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


@torch.no_grad()
def rotate(base: Path, target: Path, seed: int = 0) -> None:
    """Write the rotated form of the llama checkpoint in `base`, in fp32 and with an lm_head of its own."""
    model = checkpoints.load(base).float()
    width = model.config.hidden_size
    rotation = _orthogonal(width, seed)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    _rotate_inputs(model.lm_head, model.model.norm, rotation)
    embedding = model.model.embed_tokens
    embedding.weight.copy_(embedding.weight.double() @ rotation)
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
            _rotate_inputs(linear, layer.input_layernorm, rotation)
        for linear in (mlp.gate_proj, mlp.up_proj):
            _rotate_inputs(linear, layer.post_attention_layernorm, rotation)
        for linear in (attention.o_proj, mlp.down_proj):
            linear.weight.copy_(rotation.T @ linear.weight.double())
        layer.input_layernorm.weight.fill_(1)
        layer.post_attention_layernorm.weight.fill_(1)
    model.model.norm.weight.fill_(1)
    model.save_pretrained(target)
    copy_tokenizer(base, target)


def copy_tokenizer(base: Path, target: Path) -> None:
    """Copy what a checkpoint has besides its weights and their config."""
    for name in TOKENIZER_FILES:
        if (base / name).exists():
            shutil.copyfile(base / name, target / name)


def _orthogonal(width: int, seed: int) -> torch.Tensor:
    """Return a random orthogonal matrix in fp64."""
    numbers = torch.randn(width, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    orthogonal, triangle = torch.linalg.qr(numbers)
    return orthogonal * triangle.diagonal().sign()


def _rotate_inputs(linear: torch.nn.Linear, norm: torch.nn.Module, rotation: torch.Tensor) -> None:
    linear.weight.copy_((linear.weight.double() * norm.get_parameter("weight").double()) @ rotation)
