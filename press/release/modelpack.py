"""The OCI artifact of a release, as CNCF ModelPack describes it: a layer for each file, and what it says of itself.

https://github.com/modelpack/model-spec
"""

from pathlib import Path, PurePosixPath

from press.core.errors import UserError
from press.release import provenance
from press.release.distribution import MANIFEST, Manifest, descriptor, digest_of, encoded, is_descriptor
from press.release.package import Package
from press.release.registry import Version
from press.release.settings import Oci

MODEL, CONFIG = "application/vnd.cncf.model.manifest.v1+json", "application/vnd.cncf.model.config.v1+json"
LAYER = "application/vnd.cncf.model.{}.v1.raw"
# What a file is, by the end of its name; the rest configures the weights.
KINDS = {".onnx": "weight", ".data": "weight", ".onnx_adapter": "weight", ".safetensors": "weight", ".md": "doc"}
FILEPATH, TITLE = "org.cncf.model.filepath", "org.opencontainers.image.title"
CREATED, VERSION = "org.opencontainers.image.created", "org.opencontainers.image.version"
REVISION = "org.opencontainers.image.revision"
# What file systems take.
LONGEST_NAME = 255
PACKAGE, METRICS = "io.olive-press.manifest.sha256", "io.olive-press.metrics"


def of_release(package: Package, params: Oci) -> tuple[Manifest, bytes]:
    """Return the artifact of a release, the same whenever it is published from this commit, and its config."""
    sources, version = provenance.sources(package.folder), params.version
    created = provenance.committed("HEAD").isoformat()
    layers = [_layer(package.folder / name, name, digest) for name, digest in package.digests.items()]
    about = {"name": params.repository, "version": version, "createdAt": created}
    config = encoded(
        {
            "descriptor": {**about, "revision": sources["git_commit"]},
            "config": {"format": "onnx", "capabilities": {"inputTypes": ["text"], "outputTypes": ["text"]}},
            "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in layers]},
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": MODEL,
        "config": descriptor(CONFIG, config),
        "layers": layers,
        "annotations": {
            CREATED: created,
            VERSION: version,
            REVISION: sources["git_commit"],
            PACKAGE: package.digest,
            METRICS: package.figures,
        },
    }
    content = encoded(manifest)
    return Manifest(content, digest_of(content), manifest), config


def layers(artifact: Manifest, where: str) -> dict[str, dict]:
    """Return the layer of each file.

    :param where: the artifact is, for the sentence
    :raises UserError: if it is not what this registers
    """
    by_name: dict[str, dict] = {}
    try:
        if artifact.value["artifactType"] != MODEL:
            raise ValueError(artifact.value["artifactType"])
        for layer in artifact.value["layers"]:
            name = layer["annotations"][FILEPATH]
            if not (_is_inside(name) and is_descriptor(layer)) or name in by_name:
                raise ValueError(name)
            by_name[name] = layer
        folders = {str(parent) for name in by_name for parent in PurePosixPath(name).parents}
        if both := folders & by_name.keys():
            raise ValueError(both)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{where}@{artifact.digest} is no release: publish.oci.repository in params.yaml must name "
            "a repository for releases alone"
        ) from error
    return by_name


def _layer(path: Path, name: str, digest: str) -> dict:
    kind = "doc" if path.name.upper().startswith("LICENSE") else KINDS.get(path.suffix, "weight.config")
    about = {FILEPATH: name, TITLE: name}
    return {
        "mediaType": LAYER.format(kind),
        "digest": f"sha256:{digest}",
        "size": path.stat().st_size,
        "annotations": about,
    }


def _is_inside(name: object) -> bool:
    """Whether it is the name of a file below a folder."""
    if not isinstance(name, str) or not name.isprintable() or "\\" in name:
        return False
    path = PurePosixPath(name)
    if path.as_posix() != name or not path.parts or path.is_absolute() or ".." in path.parts:
        return False
    return all(len(part.encode()) <= LONGEST_NAME for part in path.parts)


def named(artifact: Manifest) -> str:
    """Return which version an artifact says that it is."""
    return artifact.annotations.get(VERSION, "no version")


def version(tag: str, artifact: Manifest, holders: dict[str, str]) -> Version:
    """Return what an artifact says of a version; without a digest if the tag names something else."""
    about = artifact.annotations
    moved = named(artifact) != tag
    return Version(
        tag,
        "" if moved else about.get(PACKAGE, ""),
        about.get(CREATED, "")[:16].replace("T", " "),
        f"moved to {named(artifact)}" if moved else about.get(METRICS, ""),
        sorted(stage for stage, digest in holders.items() if digest == artifact.digest and not moved),
    )


def order(version: str) -> tuple[list[int], bool, str]:
    """Return what sorts versions: a pre-release comes before its version."""
    numbers, _, pre = version.partition("-")
    return [int(number) for number in numbers.split(".")], not pre, pre
