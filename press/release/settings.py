"""The types of the blocks `publish`, `signing` and `licences` of params.yaml, which say nothing about what is built."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from press.core import paths
from press.core.errors import UserError
from press.params import reading, schema, settings
from press.params.schema import Block, Name

# https://semver.org, without build metadata, which a version of an artifact must not have.
NUMBER, IDENTIFIER = r"(0|[1-9]\d*)", r"(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
SEMVER = rf"^{NUMBER}\.{NUMBER}\.{NUMBER}(-{IDENTIFIER}(\.{IDENTIFIER})*)?$"
AZUREML_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$"
PATTERNS = {
    **schema.PATTERNS,
    SEMVER: "a version such as 1.2.3",
    AZUREML_NAME: "letters, digits, ., _ and -, at most 255",
}


class Git(Block):
    artifact: Name
    version: Annotated[str, Field(pattern=SEMVER)]
    remote: str


class Azureml(Block):
    name: Annotated[str, Field(pattern=AZUREML_NAME)]
    version: Annotated[str, Field(pattern=AZUREML_NAME)]
    subscription: str
    resource_group: str
    workspace: str


class Publish(Block):
    """Where a package is registered."""

    target: Name
    registry: Literal["git", "azureml"]
    git: Git
    azureml: Azureml

    @property
    def version(self) -> str:
        """The version that `make publish` registers."""
        return self.git.version if self.registry == "git" else self.azureml.version


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
