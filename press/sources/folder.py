"""A model in a folder of this machine."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from press.core import files, paths
from press.core.errors import UserError
from press.model import architectures, checkpoints
from press.params import schema


def bring(source: schema.LocalSource, kept: Sequence[str], target: Path) -> None:
    """Copy a checkpoint's files from a folder whose content is pinned by its digest."""
    folder = Path(source.path).expanduser()
    if not folder.is_dir():
        raise UserError(f"base.local.path names {folder}, which is not a folder")
    copy_checkpoint(folder, kept, target)
    digest = files.folder_digest(target)
    if digest != source.sha256:
        raise UserError(
            f"the checkpoint in {folder} has the digest {digest}, but base.local.sha256 in params.yaml is "
            f"{source.sha256!r}: if this is the model you mean, write its digest there"
        )


def copy_checkpoint(folder: Path, kept: Sequence[str], target: Path) -> None:
    """Copy those files of a folder that belong to a checkpoint, and nothing else.

    :raises UserError: if the folder has an architecture that is not supported, or no weights in safetensors format, or
        does not fit on the target's disk
    """
    check_architecture(folder)
    checkpoints.weight_shapes(folder)
    copied = [path for path in folder.iterdir() if path.is_file() and any(path.match(pattern) for pattern in kept)]
    files.check_space(target, sum(path.stat().st_size for path in copied), str(folder))
    for path in sorted(copied):
        shutil.copyfile(path, target / path.name)


def check_architecture(folder: Path) -> None:
    """Refuse a folder whose config.json is of an architecture that is not supported."""
    if (folder / paths.CONFIG).exists():
        architectures.read(folder / paths.CONFIG)
