"""What a registry of package versions can do; git.py, azureml.py and oci.py are three."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from press.core.errors import UserError
from press.release.package import Package

STAGES = ("staging", "prod")


@dataclass(frozen=True)
class Version:
    """A registered version of a package."""

    version: str
    digest: str
    date: str
    metrics: str
    stages: list[str] = field(default_factory=list)
    # Whether its publication came to an end.
    whole: bool = True


class Registry(ABC):
    """A place where versions of one package are registered; every method may be called again after a kill."""

    @abstractmethod
    def describe(self, package: Package) -> str:
        """Say in a line what `register` would do."""

    @abstractmethod
    def versions(self) -> list[Version]:
        """Return all versions, the oldest first."""

    @abstractmethod
    def check(self, package: Package) -> None:
        """Refuse what would keep `register` or `settle` from its end, before anything is sent.

        `versions` comes first, which learns of what is there.
        """

    @abstractmethod
    def register(self, package: Package) -> None:
        """Register a package under the version of params.yaml, which is not registered yet."""

    @abstractmethod
    def settle(self, package: Package) -> None:
        """Prove that the version holds this package; finish what a registration that was killed left undone."""

    @abstractmethod
    def promote(self, version: str, stage: str) -> None:
        """Give a stage to a registered version, and take it from the version that had it."""

    @abstractmethod
    def fetch(self, version: str, folder: Path) -> None:
        """Put the files of a registered version into a folder that does not exist yet."""

    def fetch_adapter(self, version: str, adapter: str, folder: Path) -> None:
        """Bring one adapter of a registered version, with the manifest and what lies beside the package, into a folder
        that has all else of the version.
        """
        raise UserError(
            f"ADAPTER={adapter} needs a registry that gives single files: publish.registry oci in params.yaml"
        )
