"""A mixture's experts apart from each other in a checkpoint's files, by the names of press/model/experts.py.

Checkpoints have those of a layer in one tensor of three axes, or apart by other names.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from press.core import paths
from press.model import checkpoints
from press.sources import rewriting

if TYPE_CHECKING:
    import torch

NAMES = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
APART = re.compile(rf"(.+\.experts\.\d+)\.({'|'.join(NAMES)})\.(.+)")
# The block that has them, and gates and values, one behind the other, or outputs; Granite's are named as linears are.
TOGETHER = {
    re.compile(r"(.+)\.experts\.gate_up_proj"): ("w1", "w3"),
    re.compile(r"(.+\.block_sparse_moe)\.input_linear\.weight"): ("w1", "w3"),
    re.compile(r"(.+)\.experts\.down_proj"): ("w2",),
    re.compile(r"(.+\.block_sparse_moe)\.output_linear\.weight"): ("w2",),
}
ROUTER, OWN_ROUTER = ".block_sparse_moe.router.layer.", ".block_sparse_moe.router."


def bring(checkpoint: Path) -> None:
    """Write the experts of the checkpoint in a folder apart, if it has any and they are not so already."""
    config = checkpoints.read_object(checkpoint / paths.CONFIG) if (checkpoint / paths.CONFIG).exists() else {}
    if checkpoints.has_experts(config) and any(_is_foreign(name) for name in checkpoints.weight_shapes(checkpoint)):
        rewriting.rewrite(checkpoint, parts)


def parts(name: str, read: "Callable[[], torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Return what a tensor of a checkpoint is in the files that the pipeline has."""
    for pattern, linears in TOGETHER.items():
        if match := pattern.fullmatch(name):
            rows = [expert.chunk(len(linears)) for expert in read()]
            return {
                f"{match[1]}.experts.{index}.{linear}.weight": own.clone()
                for index, each in enumerate(rows)
                for linear, own in zip(linears, each, strict=True)
            }
    if match := APART.fullmatch(name):
        return {f"{match[1]}.{NAMES[match[2]]}.{match[3]}": read()}
    return {name.replace(ROUTER, OWN_ROUTER): read()}


def _is_foreign(name: str) -> bool:
    return ROUTER in name or any(pattern.fullmatch(name) for pattern in (APART, *TOGETHER))
