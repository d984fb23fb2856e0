"""A registry in an Azure ML workspace: versions of a custom model, by the SDK azure-ai-ml.

The SDK's own upload confirms a folder by one file alone, and fails where another left a part of it or sends the same
just then. So files are uploaded here, over what is there, to a place that their content names, and the version is
registered with that place. A call may never return when a server dies: all run in a process that is ended when a call's
time is up, and a version counts as published only once it has been downloaded and compared with what was sent: until
then it lacks the tag `verified`. Tags are the only thing of a version that can change; `stage.prod: 3` gives it a
stage, and the highest number holds it, so that a promotion is a single change. The server takes all tags of a version
at once and the last who writes wins, so that a promotion reads them again, and writes again what is lost.
"""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, cast

from tqdm import tqdm

from press.core import azure, files
from press.core.errors import UserError
from press.release import bounded, provenance
from press.release.package import Package
from press.release.registry import Registry, Version
from press.release.settings import Azureml

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Model, SystemData
    from azure.storage.blob import ContainerClient

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

VARIABLES = {
    "subscription": "AZURE_SUBSCRIPTION_ID",
    "resource_group": "AZURE_RESOURCE_GROUP",
    "workspace": "AZUREML_WORKSPACE_NAME",
}
# Seconds to wait for each answer.
ANSWER_SECONDS = 30
# The datastore that every workspace has, and the folder of it that holds releases.
DATASTORE, FOLDER = "workspaceblobstore", "olive-press"
DIGEST, METRICS, VERIFIED, STAGE = "manifest_sha256", "metrics", "verified", "stage."
# How often a promotion is written before it gives way to others.
PROMOTIONS = 5
OTHER_CONTENT = "Asset paths cannot be updated"
PLACE = re.compile(r"/datastores/(?P<datastore>[^/]+)/paths/(?P<folder>.+?)/?$")


class AzuremlRegistry(Registry):
    """Versions of the model that params.yaml names, in the workspace that it or the environment names."""

    def __init__(self, params: Azureml, seconds: float) -> None:
        self.params = located(params)
        self.seconds = seconds
        self._process = bounded.Process(f"Azure ML ({where(self.params)})")

    def describe(self, package: Package) -> str:
        return f"the model {self.params.name}, version {self.params.version}, in {where(self.params)}"

    def versions(self) -> list[Version]:
        return self._ask(_listed)

    def check(self, package: Package) -> None:
        """Nothing more is known before the server is asked, as `versions` has done."""

    def register(self, package: Package) -> None:
        properties = {DIGEST: package.digest, **provenance.sources(package.folder)}
        place = f"{FOLDER}/{_content(package.digests)}/{self.params.name}"
        tags = {**properties, METRICS: package.figures}
        self._ask(_register, place, package.folder, list(package.digests), properties, tags)
        self.settle(package)

    def settle(self, package: Package) -> None:
        version, held, came = self.params.version, self._ask(_held, self.params.version), self._downloaded()
        # Another release of the same package, with figures of its own, stays as it was registered.
        if _content(came) != held:
            self._mend(package, held, came)
        self._ask(_tag, version, {VERIFIED: "true"})

    def promote(self, version: str, stage: str) -> None:
        self._ask(_promote, version, stage)

    def fetch(self, version: str, folder: Path) -> None:
        self._ask(_download, version, folder)

    def _mend(self, package: Package, held: str, came: dict[str, str]) -> None:
        """Upload again what did not arrive whole, and remove what is too much.

        :param held: names the content that the version was registered with
        :param came: the SHA-256 of each file that is there
        """
        name, version, place = self.params.name, self.params.version, where(self.params)
        if held != _content(package.digests):
            raise UserError(
                f"{name} {version} is another release of the same package, and not whole in {place}: publish that one "
                "again, or raise publish.azureml.version in params.yaml and commit it"
            )
        wrong = _differing(package.digests, came)
        if lost := [each for each in wrong if each in package.digests]:
            print(f"{', '.join(lost)} did not arrive whole: uploading again", flush=True)
            self._ask(_upload_again, version, package.folder, lost)
        if foreign := [each for each in wrong if each not in package.digests]:
            print(f"{', '.join(foreign)} is no file of this release: removing it from there", flush=True)
            self._ask(_remove, version, foreign)
        wrong = _differing(package.digests, self._downloaded())
        if wrong:
            raise UserError(f"{wrong[0]} is another file in {place} than here: run `make publish` again")

    def _downloaded(self) -> dict[str, str]:
        """Download the version; return the SHA-256 of each of its files."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "downloaded"
            self._ask(_download, self.params.version, folder)
            return files.digests(folder)

    def _ask(self, function: Callable[[Azureml, *Arguments], T], *arguments: *Arguments) -> T:
        return self._process.call(function, self.params, *arguments, seconds=self.seconds)


def _content(digests: dict[str, str]) -> str:
    """Return what names a release's place: the manifest's digest is not enough, which says nothing of figures,
    provenance and signature.
    """
    return hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()


def _differing(sent: dict[str, str], came: dict[str, str]) -> list[str]:
    """Return the names of the files that are missing, or not those that were sent."""
    return sorted(name for name in sent.keys() | came.keys() if sent.get(name) != came.get(name))


def located(params: Azureml) -> Azureml:
    """Return the settings with the workspace that they or the environment name.

    :raises UserError: if neither does
    """
    values = {key: getattr(params, key) or os.environ.get(name, "") for key, name in VARIABLES.items()}
    missing = [key for key, value in values.items() if not value]
    if missing:
        raise UserError(
            f"publish.azureml.{missing[0]} is empty: name it in params.yaml or in the variable {VARIABLES[missing[0]]}"
        )
    return params.model_copy(update=values)


def where(params: Azureml) -> str:
    return f"the workspace {params.workspace} of {params.resource_group}"


def _listed(params: Azureml) -> list[Version]:
    with workspace(params) as client:
        models = _models(client, params)
        holders = _holders(models)
        return [
            Version(
                cast(str, model.version),
                (model.properties or {}).get(DIGEST, ""),
                f"{_created(model):%Y-%m-%d %H:%M}",
                _tags(model).get(METRICS, ""),
                sorted(stage for stage, holder in holders.items() if holder == model.version),
                VERIFIED in _tags(model),
            )
            for model in models
        ]


def _register(
    params: Azureml, place: str, folder: Path, names: list[str], properties: dict[str, str], tags: dict[str, str]
) -> None:
    from azure.ai.ml.constants import AssetTypes
    from azure.ai.ml.entities import Model
    from azure.ai.ml.exceptions import AssetPathException
    from azure.core.exceptions import HttpResponseError

    path = f"azureml://datastores/{DATASTORE}/paths/{place}"
    with workspace(params) as client:
        _upload(client, DATASTORE, place, folder, names)
        words = {"name": params.name, "version": params.version, "type": AssetTypes.CUSTOM_MODEL}
        try:
            client.models.create_or_update(Model(path=path, properties=properties, tags=tags, **words))
        except (AssetPathException, HttpResponseError) as error:
            # The SDK knows the server's sentence only where nothing follows it.
            if not isinstance(error, AssetPathException) and OTHER_CONTENT not in str(error):
                raise
            raise UserError(
                f"somebody else has just published {params.name} {params.version} with another content: raise "
                "publish.azureml.version in params.yaml and commit it"
            ) from error


def _tag(params: Azureml, version: str, tags: dict[str, str]) -> None:
    with workspace(params) as client:
        model = client.models.get(params.name, version)
        if not tags.items() <= _tags(model).items():
            model.tags = {**_tags(model), **tags}
            client.models.create_or_update(model)


def _promote(params: Azureml, version: str, stage: str) -> None:
    for _ in range(PROMOTIONS):
        began = time.monotonic()
        with workspace(params) as client:
            models = _models(client, params)
        if _holders(models).get(stage) == version:
            return
        turn = max(_turn(model, stage) for model in models) + 1
        _tag(params, version, {f"{STAGE}{stage}": str(turn)})
        # Who read the tags before this was written may still write: it takes them about as long as it took here.
        time.sleep(time.monotonic() - began)
    raise UserError(f"{stage} was given, and lost to others who write just then, {PROMOTIONS} times: run this again")


def _download(params: Azureml, version: str, folder: Path) -> None:
    with workspace(params) as client, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        client.models.download(params.name, version, download_path=scratch)
        downloaded = Path(scratch) / params.name / _place(client, params, version)["folder"].rpartition("/")[2]
        downloaded.mkdir(parents=True, exist_ok=True)
        downloaded.rename(folder)


def _held(params: Azureml, version: str) -> str:
    """Return what names the content that a version was registered with."""
    with workspace(params) as client:
        return PurePosixPath(_place(client, params, version)["folder"]).parent.name


def _upload_again(params: Azureml, version: str, folder: Path, names: list[str]) -> None:
    """Upload files of a version once more."""
    with workspace(params) as client:
        place = _place(client, params, version)
        _upload(client, place["datastore"], place["folder"], folder, names)


def _remove(params: Azureml, version: str, names: list[str]) -> None:
    """Remove files from the place of a version."""
    with workspace(params) as client:
        place = _place(client, params, version)
        with container(client, place["datastore"]) as blobs:
            for name in names:
                blobs.delete_blob(f"{place['folder']}/{name}")


def _upload(client: "MLClient", datastore: str, place: str, folder: Path, names: list[str]) -> None:
    """Upload files of a folder to a place in a datastore, over what is there."""
    total = sum((folder / name).stat().st_size for name in names)
    with (
        container(client, datastore) as blobs,
        tqdm(total=total, desc="uploading", unit="B", unit_scale=True) as bar,
    ):
        for name in names:

            def show(sent: int, _: int | None, before: int = bar.n) -> None:
                bar.update(before + sent - bar.n)

            with (folder / name).open("rb") as file:
                blobs.upload_blob(f"{place}/{name}", file, overwrite=True, progress_hook=show)


def container(client: "MLClient", datastore: str) -> "ContainerClient":
    """Return the blob container of a datastore, with its key or token, or else the caller's own login."""
    from azure.ai.ml.entities import AccountKeyConfiguration
    from azure.storage.blob import ContainerClient

    store = client.datastores.get(datastore, include_secrets=True)
    match store.credentials:
        case AccountKeyConfiguration(account_key=key):
            credential = key
        case given:
            credential = getattr(given, "sas_token", None) or azure.credential(ANSWER_SECONDS)
    account = f"{store.protocol}://{store.account_name}.blob.{store.endpoint}"
    return ContainerClient(account, store.container_name, credential, **azure.limits(ANSWER_SECONDS))


def _models(client: "MLClient", params: Azureml) -> list["Model"]:
    """Return all versions of the model, the oldest first."""
    from azure.core.exceptions import ResourceNotFoundError

    # A workspace that does not exist is a mistake; a model that does not exist has no versions yet.
    client.workspaces.get(params.workspace)
    try:
        return sorted(client.models.list(params.name), key=_created)
    except ResourceNotFoundError:
        return []


def _created(model: "Model") -> datetime:
    """Return when a version was registered, which the server knows of all that it lists."""
    return cast(datetime, cast("SystemData", model.creation_context).created_at)


def _tags(model: "Model") -> dict[str, str]:
    return model.tags or {}


def _holders(models: list["Model"]) -> dict[str, str]:
    """Map each stage that was ever given to the version that has it; of two with the same turn that is the older."""
    stages = {tag.removeprefix(STAGE) for model in models for tag in _tags(model) if tag.startswith(STAGE)}
    last = {stage: max(models, key=lambda model: _turn(model, stage)) for stage in stages}
    return {stage: cast(str, model.version) for stage, model in last.items() if _turn(model, stage)}


def _turn(model: "Model", stage: str) -> int:
    """Return the number of the promotion that gave a version a stage, 0 if none did."""
    number = _tags(model).get(f"{STAGE}{stage}", "0")
    return int(number) if number.isdecimal() else 0


def _place(client: "MLClient", params: Azureml, version: str) -> re.Match:
    path = client.models.get(params.name, version).path
    match = PLACE.search(path)
    if not match:
        raise UserError(f"{params.name} {version} is at {path}, which is no folder of a datastore: publish it anew")
    return match


@contextmanager
def workspace(params: Azureml) -> Iterator["MLClient"]:
    """Yield a client of the workspace, and turn its errors into sentences."""
    from azure.ai.ml import MLClient
    from azure.core.exceptions import AzureError, ResourceNotFoundError

    login, limits = azure.credential(ANSWER_SECONDS), azure.limits(ANSWER_SECONDS)
    words = (params.subscription, params.resource_group, params.workspace)
    try:
        yield MLClient(login, *words, enable_telemetry=False, **limits)
    except ResourceNotFoundError as error:
        raise UserError(
            f"{where(params)} or what it should hold does not exist ({azure.first_line(error)}): mend "
            "publish.azureml in params.yaml, or publish again"
        ) from error
    except AzureError as error:
        raise UserError(azure.sentence(error, "use", "used", where(params))) from error
