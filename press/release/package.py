"""A package, built or in a release, with the digest of every file."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from press.core import files, paths
from press.core.errors import UserError


@dataclass(frozen=True)
class Package:
    """A package folder with its manifest, and the SHA-256 of every file that is there."""

    folder: Path
    manifest: dict
    digests: dict[str, str]

    @property
    def digest(self) -> str:
        """The SHA-256 of the manifest, which names every file's."""
        return self.digests[paths.MANIFEST]

    @property
    def figures(self) -> str:
        """The loss of each adapter in ONNX on its held-out answers."""
        scores = files.read_json(self.folder / paths.METRICS)
        losses = {name: of["onnx"]["adapter"]["loss"] for name, of in scores.items() if "adapter" in of.get("onnx", {})}
        return ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())


def load(folder: Path, beside: Collection[str] = ()) -> Package:
    """Read a package and check that it holds exactly the files of its manifest.

    :param beside: names of files that may lie beside them
    :raises UserError: if it does not, naming the first file that is missing, damaged or not in the manifest
    """
    path = folder / paths.MANIFEST
    if not path.exists():
        raise UserError(f"{path} is missing: {folder} is neither a package (`make repro` builds one) nor a release")
    try:
        manifest = files.read_json(path)
        listed = manifest["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: build or fetch the package again") from error
    digests = files.digests(folder)
    present = {name: digest for name, digest in digests.items() if name not in (paths.MANIFEST, *beside)}
    for name in sorted(listed.keys() | present.keys()):
        if listed.get(name) != present.get(name):
            what = "missing" if name not in present else "not in the manifest" if name not in listed else "damaged"
            raise UserError(f"{folder / name} is {what}: build or fetch the package again")
    return Package(folder, manifest, digests)
