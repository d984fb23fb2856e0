"""The types of the blocks `publish`, `signing` and `licences` of params.yaml, which say nothing about what is built."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from press.core import paths
from press.core.errors import UserError
from press.params import reading, schema, settings
from press.params.schema import Block, Name

# https://semver.org, without build metadata, which a version of an artifact must not have.
NUMBER, IDENTIFIER = r"(0|[1-9]\d*)", r"(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
SEMVER = rf"^{NUMBER}\.{NUMBER}\.{NUMBER}(-{IDENTIFIER}(\.{IDENTIFIER})*)?$"
AZUREML_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$"
# https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md; empty until they are named.
LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
OCI_REGISTRY = rf"^({LABEL}(\.{LABEL})*(:\d{{1,5}})?)?$"
LONGEST_TAG = 128
PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
OCI_REPOSITORY = rf"^({PART}(/{PART})*)?$"
# https://learn.microsoft.com/azure/machine-learning/reference-yaml-endpoint-online
ENDPOINT_NAME = r"^[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]$"
# By its content; empty until it is named.
IMAGE = r"^([\w.:/-]+@sha256:[0-9a-f]{64})?$"
# What a line of a bill of materials can show.
SUPPLIER = r"^([^\p{C}\p{Z}]([^\p{C}\p{Zl}\p{Zp}]{0,198}[^\p{C}\p{Z}])?)?$"
PATTERNS = {
    **schema.PATTERNS,
    OCI_REGISTRY: "a host's name, such as ghcr.io or registry.example.com:5000",
    OCI_REPOSITORY: "a repository's name in lower case, such as owner/olive-press",
    SEMVER: "a version such as 1.2.3",
    ENDPOINT_NAME: "3 to 32 letters, digits and -, a letter first",
    IMAGE: "an image by its digest, such as press.azurecr.io/olive-press-serve@sha256:... with 64 digits",
    SUPPLIER: "a name of at most 200 characters in one line, without blanks around it, or empty",
    AZUREML_NAME: "letters, digits, ., _ and -, at most 255",
}


class Git(Block):
    artifact: Name
    version: Annotated[str, Field(pattern=SEMVER)]
    remote: str


class Endpoint(Block):
    """Where `make deploy TO=azureml` lets a version be served."""

    name: Annotated[str, Field(pattern=ENDPOINT_NAME)]
    image: Annotated[str, Field(pattern=IMAGE)]
    instance_type: str
    instances: Annotated[int, Field(ge=1, le=100)]


class Azureml(Block):
    name: Annotated[str, Field(pattern=AZUREML_NAME)]
    version: Annotated[str, Field(pattern=AZUREML_NAME)]
    subscription: str
    resource_group: str
    workspace: str
    endpoint: Endpoint


def is_tag_of_version(tag: str) -> bool:
    """Whether a tag of a registry can be a version."""
    return len(tag) <= LONGEST_TAG and re.search(SEMVER, tag) is not None and tag.isprintable()


class Oci(Block):
    registry: Annotated[str, Field(pattern=OCI_REGISTRY)]
    repository: Annotated[str, Field(pattern=OCI_REPOSITORY)]
    version: Annotated[str, Field(pattern=SEMVER)]

    @field_validator("version")
    @classmethod
    def version_is_a_tag(cls, version: str) -> str:
        if len(version) > LONGEST_TAG:
            raise ValueError(f"it has {len(version)} characters, but a registry's tag has at most {LONGEST_TAG}")
        return version


class Publish(Block):
    """Where a package is registered."""

    target: Name
    supplier: Annotated[str, Field(pattern=SUPPLIER)]
    registry: Literal["git", "azureml", "oci"]
    git: Git
    azureml: Azureml
    oci: Oci

    @property
    def version(self) -> str:
        """The version that `make publish` registers."""
        chosen: Git | Azureml | Oci = getattr(self, self.registry)
        return chosen.version


class Key(Block):
    private: str
    public: str


class Certificate(Block):
    private: str
    certificate: str
    chain: list[str]


class Sigstore(Block):
    identity: str
    issuer: str


class Signing(Block):
    """Who vouches for a release."""

    required: Literal["auto", True, False]
    mode: Literal["key", "certificate", "sigstore"]
    key: Key
    certificate: Certificate
    sigstore: Sigstore

    @model_validator(mode="after")
    def chosen_mode_is_complete(self) -> "Signing":
        chosen = getattr(self, self.mode)
        # A private key that is not named is the user's own.
        empty = [name for name, value in chosen if not value and name != "private"]
        if empty:
            raise ValueError(f"signing.{self.mode}.{empty[0]} is empty, but signing.mode is {self.mode}: name it")
        return self


class Licences(Block):
    """Which licences a release may have."""

    allow: list[str]
    data: dict[str, str]


class Release(Block):
    """What params.yaml says about the release."""

    publish: Publish
    signing: Signing
    licences: Licences


def load() -> Release:
    """Read and validate params.yaml, or raise UserError with one sentence for each mistake."""
    targets = settings.load().targets
    release = reading.chosen(Release, PATTERNS)
    if release.publish.target not in targets:
        raise UserError(
            f"{paths.PARAMS}: publish.target is {release.publish.target!r}, but must be one of {', '.join(targets)}"
        )
    return release
