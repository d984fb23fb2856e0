"""A model in a folder of this machine."""

import shutil
from pathlib import Path

from press.core import files, paths
from press.core.errors import UserError
from press.model import architectures, checkpoints
from press.params import schema
from press.sources import members


def bring(source: schema.LocalSource, trust: bool, target: Path) -> None:
    """Copy a checkpoint's files from a folder whose content is pinned by its digest.

    :param trust: whether its own Python code is wanted
    """
    folder = Path(source.path).expanduser()
    if not folder.is_dir():
        raise UserError(f"base.local.path names {folder}, which is not a folder")
    copy_checkpoint(folder, trust, target)
    digest = files.folder_digest(target)
    if digest != source.sha256:
        raise UserError(
            f"the checkpoint in {folder} has the digest {digest}, but base.local.sha256 in params.yaml is "
            f"{source.sha256!r}: if this is the model you mean, write its digest there"
        )


def copy_checkpoint(folder: Path, trust: bool, target: Path) -> None:
    """Copy those files of a folder that belong to a checkpoint, and nothing else.

    :param trust: whether the checkpoint's own Python code is wanted
    :raises UserError: if the folder has an architecture that is not supported, no weights in safetensors format, or
        links that lead elsewhere, or does not fit on the target's disk
    """
    copied = {path.name: _resolved(path) for path in sorted(folder.iterdir()) if _is_kept(path, trust)}
    check_architecture(folder)
    checkpoints.weight_shapes(folder)
    files.check_space(target, sum(path.stat().st_size for path in copied.values()), str(folder))
    for name, path in copied.items():
        shutil.copyfile(path, target / name)


def _is_kept(path: Path, trust: bool) -> bool:
    """Whether a path is to be copied; a folder beside a checkpoint's files is none of them."""
    return members.is_kept(path.name, trust) and (path.is_symlink() or not path.is_dir())


def _resolved(path: Path) -> Path:
    """Return the file that a path stands for.

    A link may lead to another file of the folder, or to a blob of the model in the hub client's cache, where each file
    of a snapshot is such a link: https://huggingface.co/docs/huggingface_hub/guides/manage-cache

    :raises UserError: if it leads elsewhere, or there is no file
    """
    folder, resolved = path.parent.resolve(), path.resolve()
    homes = [folder, folder.parents[1] / "blobs"] if folder.parent.name == "snapshots" else [folder]
    if resolved.parent not in homes:
        raise UserError(f"{path} is a link to {resolved}, outside of the checkpoint: put the file itself in its place")
    if not resolved.is_file():
        raise UserError(f"{path} is no file: put the file itself in its place, or remove it")
    return resolved


def check_architecture(folder: Path) -> None:
    """Refuse a folder whose config.json is of an architecture that is not supported."""
    if (folder / paths.CONFIG).exists():
        architectures.read(folder / paths.CONFIG)
