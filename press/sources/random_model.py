"""A randomly initialised model: for tests and benches."""

import textwrap
from pathlib import Path
from typing import Any

from press.core.errors import UserError
from press.model import architectures, checkpoints, weights
from press.params import schema
from press.sources import tokenizers


def build(source: schema.RandomSource, seed: int, target: Path) -> None:
    """Build a randomly initialised model from a configuration, with a byte-level tokenizer: for tests and benches."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = tokenizers.of_bytes()
    values: dict[str, Any] = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, **source.config}
    values |= {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    try:
        weights.check_numbers(values)
        config = AutoConfig.for_model(**values)
        architectures.check(config.to_dict())
        checkpoints.set_experts_apart(config.to_dict())
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    except (AssertionError, KeyError, RuntimeError, StrictDataclassError, TypeError, ValueError) as error:
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise UserError(f"base.random.config describes no causal language model: {reason}") from error
    model.save_pretrained(target)
    tokenizers.save(tokenizer, target)
    (target / "LICENSE").write_text("Random numbers; no rights reserved (CC0 1.0).\n", encoding="utf-8")
