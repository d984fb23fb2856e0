"""A model in an Azure ML registry."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from tqdm import tqdm

from press.core import azure
from press.core.errors import UserError
from press.params import schema
from press.sources import download
from press.sources.download import RemoteFile

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

# Bytes asked for at a time, which are held in memory.
CHUNK = 32 << 20


def bring(source: schema.AzuremlSource, trust: bool, folders: download.Folders, timeout: float = 30) -> None:
    """Download a model version from an Azure ML registry with the caller's Azure identity.

    :param trust: whether its own Python code is wanted
    :param timeout: seconds to wait for each answer; each failing call is tried four times
    :raises UserError: if it does not exist, cannot be read or reached, does not fit on the disk, or is not a checkpoint
        that the pipeline takes
    """
    with sentences(source.uri):
        listed = listing(source.uri, timeout)
        download.checkpoint(listed, trust, source.uri, source.uri.removeprefix("azureml://"), folders)


def listing(uri: str, timeout: float) -> list[RemoteFile]:
    """Return the files beside the model's config.json, with their sizes.

    The SDK's own download holds every file in memory as a whole, and says no size before.

    :param uri: azureml://registries/REGISTRY/models/NAME/versions/VERSION
    :param timeout: seconds to wait for each answer
    :raises UserError: if there is no config.json
    """
    container, prefix = _container(uri, timeout)
    blobs = [blob for blob in container.list_blobs(name_starts_with=prefix, include=["metadata"]) if not _folder(blob)]
    sizes = {blob.name: blob.size for blob in blobs if f"{blob.name}/".startswith(f"{prefix}/")}
    configs = [name for name in sizes if name.rpartition("/")[2] == "config.json"]
    if not configs:
        raise UserError(f"{uri} holds no config.json: it is not a Hugging Face checkpoint")
    # The one that lies the least deep: others are of the model's parts.
    folder = min(configs, key=lambda name: (name.count("/"), name)).removesuffix("config.json")
    beside = [name for name in sizes if name.startswith(folder) and "/" not in name.removeprefix(folder)]
    return [
        RemoteFile(name.removeprefix(folder), sizes[name], functools.partial(_append, container, name))
        for name in beside
    ]


def _container(uri: str, timeout: float) -> tuple["ContainerClient", str]:
    """Return the storage container that has a model, and the prefix of its files' names there."""
    from azure.ai.ml import MLClient
    from azure.ai.ml._utils._registry_utils import get_storage_details_for_registry_assets
    from azure.storage.blob import ContainerClient

    _, _, _, registry, _, name, _, version = uri.split("/")
    login, limits = azure.credential(timeout), azure.limits(timeout)
    models = MLClient(login, registry_name=registry, enable_telemetry=False, **limits).models
    path = models.get(name, version).path
    url, _ = get_storage_details_for_registry_assets(
        service_client=models._registry_service_client,
        asset_type="models",
        asset_name=name,
        asset_version=version,
        rg_name=models._resource_group_name,
        reg_name=registry,
        uri=path,
    )
    prefix = urlsplit(path).path.strip("/").partition("/")[2]
    container = ContainerClient.from_container_url(url, max_single_get_size=CHUNK, max_chunk_get_size=CHUNK, **limits)
    return container, prefix


def _folder(blob) -> bool:
    """Whether a blob stands for a folder, as some stores have it."""
    return bool((blob.metadata or {}).get("hdi_isfolder"))


def _append(container: "ContainerClient", name: str, file: BinaryIO, offset: int, bar: tqdm) -> None:
    for chunk in container.download_blob(name, offset=offset).chunks():
        file.write(chunk)
        bar.update(len(chunk))


@contextmanager
def sentences(uri: str) -> Iterator[None]:
    """Turn the SDK's errors into sentences."""
    from azure.core.exceptions import AzureError, ResourceNotFoundError

    try:
        yield
    except ResourceNotFoundError as error:
        raise UserError(f"{uri} does not exist: mend base.azureml.uri in params.yaml") from error
    except AzureError as error:
        raise UserError(azure.sentence(error, "read", "downloaded", uri)) from error
