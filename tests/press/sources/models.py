"""Checkpoints of tiny random models."""

from pathlib import Path

from press.params import schema
from press.sources import random_model

CONFIG = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def built(folder: Path, seed: int = 1, **config: object) -> Path:
    """Build a model in a new folder; return it."""
    folder.mkdir()
    random_model.build(schema.RandomSource(config={**CONFIG, **config}), seed, folder)
    return folder
