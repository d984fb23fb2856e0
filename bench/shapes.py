"""Shapes of large models, for benches with random weights."""

from pathlib import Path
from typing import Any

PHI_3_5_MINI: dict[str, Any] = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
# How the rotary embedding of Phi-3.5-mini-instruct is stretched: one factor a pair of a head's 96 channels, for
# prompts up to 4096 tokens and for longer ones (its config.json on the hub at revision 2fe1924).
SHORT_FACTOR = [
    *(1.0, 1.02, 1.03, 1.03, 1.05, 1.05, 1.05, 1.05, 1.05, 1.07, 1.1, 1.11, 1.16, 1.16, 1.17, 1.29),
    *(1.34, 1.68, 1.79, 1.82, 1.85, 1.88, 1.91, 1.94, 1.99, 2.02, 2.02, 2.02, 2.02, 2.02, 2.02, 2.03),
    *(2.03, 2.03, 2.03, 2.03, 2.03, 2.03, 2.03, 2.03, 2.08, 2.09, 2.19, 2.22, 2.59, 2.73, 2.75, 2.84),
]
LONG_FACTOR = [
    *(1.08, 1.11, 1.14, 1.34, 1.59, 1.6, 1.62, 2.62, 3.23, 3.23, 4.79, 7.4, 7.7, 9.09, 12.2, 17.67),
    *(24.46, 28.57, 30.42, 30.84, 32.59, 32.93, 42.32, 44.96, 50.34, 50.45, 57.55, 57.93, 58.21, 60.14, 62.61, 62.62),
    *(62.71, 63.14, 63.14, 63.77, 63.93, 63.96, 63.97, 64.03, 64.07, 64.08, 64.12, 64.41, 64.48, 64.51, 64.53, 64.84),
]
LONG_ROPE: dict[str, Any] = {
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_scaling": {"type": "longrope", "short_factor": SHORT_FACTOR, "long_factor": LONG_FACTOR},
    "sliding_window": 262144,
}


def make_phi(folder: Path, layers: int, device: str, **changes: Any) -> None:
    """Save a random phi3 model of Phi-3.5-mini's shape in bf16, with a byte-level tokenizer."""
    from press.sources import tokenizers

    make(folder, {"model_type": "phi3", "num_hidden_layers": layers, **PHI_3_5_MINI, **changes}, device)
    tokenizers.of_bytes().save_pretrained(folder)


def make(folder: Path, config: dict[str, Any], device: str) -> None:
    """Save a random model of a configuration in bf16."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
