"""What an adapter learns for: the right answers (sft), or to prefer one answer to another (dpo)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from press.params.schema import Training

# Supervised fine-tuning, and direct preference optimization (https://arxiv.org/abs/2305.18290).
SFT, DPO = "sft", "dpo"


def learns_from_pairs(training: "Training") -> bool:
    """Return whether the data set has pairs of a chosen and a rejected answer."""
    return training.objective != SFT
