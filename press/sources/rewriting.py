"""Write the weights of a checkpoint anew, file by file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from press.core import files
from press.model import checkpoints

if TYPE_CHECKING:
    import torch


def rewrite(checkpoint: Path, parts: "Callable[[str, Callable[[], torch.Tensor]], dict[str, torch.Tensor]]") -> None:
    """Replace each tensor of a checkpoint by others, in place.

    A file is written and not changed, since it may be one and the same with that of a download.

    :param parts: from a tensor's name, and what reads it, to those that replace it by their names
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    places: dict[str, str] = {}
    names = [path.name for path in checkpoint.iterdir()]
    for path in sorted(checkpoint / name for name in checkpoints.weight_files(checkpoint, names, checkpoint)):
        tensors: dict[str, torch.Tensor] = {}
        with safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                tensors |= parts(name, lambda name=name: opened.get_tensor(name))
        path.unlink()
        if tensors:
            save_file(tensors, path, {"format": "pt"})
            places |= dict.fromkeys(tensors, path.name)
    index = checkpoint / checkpoints.INDEX
    if index.exists():
        files.write_json(index, {"metadata": {}, "weight_map": places})
