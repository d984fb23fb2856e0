"""A model on the Hugging Face hub, or in the hub client's cache."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from tqdm import tqdm

from press.core import azure
from press.core.errors import UserError
from press.params import schema
from press.sources import download, folder, members
from press.sources.download import RemoteFile

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling


# Seconds to wait for the hub's listing of a model.
TIMEOUT = 30


def bring(source: schema.HubSource, trust: bool, folders: download.Folders) -> None:
    """Download a model at a pinned revision from the Hugging Face hub, or take it from the hub client's cache.

    :param trust: whether its own Python code is wanted
    :raises UserError: if it does not exist, cannot be read or reached, does not fit on the disk, or is not a checkpoint
        that the pipeline takes
    """
    present = cached(source, trust)
    if present:
        return folder.copy_checkpoint(present, trust, folders.target)
    with sentences(source):
        listed = listing(source)
        return download.checkpoint(listed, trust, source.id, f"{source.id}@{source.revision}", folders)


def cached(source: schema.HubSource, trust: bool) -> Path | None:
    """Return the folder that `hf download` filled with all of a model's files that are wanted, if it did."""
    from huggingface_hub import errors, get_cached_repo_tree, snapshot_download

    try:
        # Without this listing, a folder in which files are missing would pass for whole.
        get_cached_repo_tree(source.id, revision=source.revision)
        wanted = [*members.KEPT, members.CODE] if trust else [*members.KEPT]
        options = {"allow_patterns": wanted, "ignore_patterns": None if trust else [members.CODE]}
        return Path(snapshot_download(source.id, revision=source.revision, local_files_only=True, **options))
    except (errors.CachedRepoTreeNotFoundError, errors.HFValidationError, errors.LocalEntryNotFoundError):
        return None


def listing(source: schema.HubSource) -> list[RemoteFile]:
    """Return the files in a model's first folder at its revision, with their sizes and digests."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(source.id, revision=source.revision, files_metadata=True, timeout=TIMEOUT)
    return [_remote_file(source, each) for each in info.siblings or [] if "/" not in each.rfilename]


def _remote_file(source: schema.HubSource, sibling: "RepoSibling") -> RemoteFile:
    # The listing was asked for with sizes.
    size = cast(int, sibling.size)
    append = functools.partial(_append, source, sibling.rfilename, size)
    if sibling.lfs:
        return RemoteFile(sibling.rfilename, size, append, sibling.lfs.sha256)
    return RemoteFile(sibling.rfilename, size, append, sibling.blob_id, _git_digest)


def _git_digest(path: Path) -> str:
    """Return the name that git gives a file's content; the hub keeps only small files in git."""
    from huggingface_hub.utils.sha import git_hash

    return git_hash(path.read_bytes())


def _append(source: schema.HubSource, name: str, size: int, file: BinaryIO, offset: int, bar: tqdm) -> None:
    """Append the rest of a file; a broken connection is taken up again as long as each try brings something.

    Not through snapshot_download, which throws away what it has of a file when it ends early.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(source.id, name, revision=source.revision)
    headers = build_hf_headers()
    # The bar is of all files: it must not be closed with one.
    shared = cast(type[tqdm], lambda **_: nullcontext(bar))
    http_get(
        url,
        file,
        resume_size=offset,
        expected_size=size,
        headers=headers,
        displayed_filename=name,
        tqdm_class=shared,
    )


@contextmanager
def sentences(
    source: schema.HubSource | schema.DataSet, kind: str = "model", block: str = "base.hub"
) -> Iterator[None]:
    """Turn the hub client's errors into sentences.

    :param kind: of repository
    :param block: of params.yaml, that names it
    """
    import httpx2
    from huggingface_hub import errors

    where = f"{source.id} at revision {source.revision}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(f"{source.id} is gated: accept its terms on the hub and log in with `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"the hub has no {where}: mend {block}.revision in params.yaml") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UserError(f"the hub has no {kind} {source.id} that you can read: mend {block}.id or log in") from error
    except (OSError, httpx2.HTTPError) as error:
        # The system's errors, a full disk's among them, have a number; the client's have none.
        if getattr(error, "errno", None) is not None:
            raise
        if getattr(getattr(error, "response", None), "status_code", None) == 401:
            raise UserError(f"the hub does not take your token for {source.id}: run `hf auth login`") from error
        raise UserError(
            f"the hub could not be reached for {where}: {azure.first_line(error)}; what was downloaded is kept, "
            "run this again to go on"
        ) from error
