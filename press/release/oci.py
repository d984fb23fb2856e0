"""A registry of containers: a version is an OCI artifact as CNCF ModelPack describes it, with a layer for each file.

https://github.com/modelpack/model-spec. Tags can be moved and digests cannot: 0.1.0 and prod are tags, an artifact says
itself which version it is, and its provenance, signed as params.yaml asks, refers to it by digest. The version's tag is
written last, when all has been downloaded and compared: what has a tag is whole, and what a killed push left is used by
the next one. A stage is a tag with the same manifest, so that a promotion is a single change.
"""

import re
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from press.core import files, paths, shell
from press.core.errors import UserError
from press.model import packaged
from press.release import attestation, bundle, distribution, package, provenance, settings, signature
from press.release.distribution import DIGEST, MANIFEST, Manifest, Repository, descriptor, digest_of, encoded
from press.release.package import Package
from press.release.registry import STAGES, Registry, Version
from press.release.settings import Oci, Signing

MODEL, CONFIG = "application/vnd.cncf.model.manifest.v1+json", "application/vnd.cncf.model.config.v1+json"
LAYER = "application/vnd.cncf.model.{}.v1.raw"
# What a file is, by the end of its name; the rest configures the weights.
KINDS = {".onnx": "weight", ".data": "weight", ".onnx_adapter": "weight", ".safetensors": "weight", ".md": "doc"}
FILEPATH, TITLE = "org.cncf.model.filepath", "org.opencontainers.image.title"
CREATED, VERSION = "org.opencontainers.image.created", "org.opencontainers.image.version"
REVISION = "org.opencontainers.image.revision"
PACKAGE, METRICS = "io.olive-press.manifest.sha256", "io.olive-press.metrics"


class OciRegistry(Registry):
    """Artifacts in the repository that params.yaml names.

    :param seconds: time limit of each step
    """

    def __init__(self, params: Oci, signing: Signing, seconds: float) -> None:
        examples = {"registry": "ghcr.io", "repository": "owner/olive-press"}
        for key, example in examples.items():
            if not getattr(params, key):
                raise UserError(f"publish.oci.{key} is empty: name it in params.yaml, such as {example}")
        self.params, self.signing = params, signing
        self._there = Repository(params.registry, params.repository, seconds)

    def describe(self, package: Package) -> str:
        return f"the artifact {self._there.where}:{self.params.version}"

    def versions(self) -> list[Version]:
        self._there.begin()
        tags = self._there.tags()
        stages = {stage: self._there.manifest(stage) for stage in STAGES if stage in tags}
        holders = {stage: found.digest for stage, found in stages.items() if found}
        found = [(tag, self._there.manifest(tag)) for tag in tags if re.search(settings.SEMVER, tag)]
        # A tag may go between the two questions.
        known = [_version(tag, artifact, holders) for tag, artifact in found if artifact]
        return sorted(known, key=lambda each: (each.date, _numbers(each.version)))

    def check(self, package: Package) -> None:
        if self._there.manifest(self.params.version):
            return
        if self._is_signed(package.digests) and not signature.can_sign(self.signing):
            raise UserError(
                f"{signature.private_key(self.signing)} is missing, by which the artifact's digest is signed: publish "
                "from where the key is"
            )

    def register(self, package: Package) -> None:
        self._there.begin()
        artifact, config = self._artifact(package)
        self._upload(package)
        self._there.upload_bytes(config)
        self._there.put_manifest(artifact.content, artifact.digest)
        self._verify(artifact, package)
        self._attest(artifact)
        version = self.params.version
        self._tag(artifact, version, self._there.manifest(version))
        print(f"artifact  {self._there.where}@{artifact.digest}", flush=True)

    def settle(self, package: Package) -> None:
        self._there.begin()
        artifact = self._release(self.params.version)
        layers = self._files(artifact)
        # Another release of the same package, with figures of its own, stays as it was registered.
        ours = {name: layer["digest"].removeprefix("sha256:") for name, layer in layers.items()} == package.digests
        if ours:
            self._upload(package)
        self._verify(artifact, package if ours else None)
        self._attest(artifact)

    def promote(self, version: str, stage: str) -> None:
        self._there.begin()
        artifact, before = self._release(version), self._there.manifest(stage)
        if not before or before.digest != artifact.digest:
            self._there.put_manifest(artifact.content, stage)

    def fetch(self, version: str, folder: Path) -> None:
        self._there.begin()
        artifact = self._release(version)
        self._check_attested(artifact)
        self._download_all(version, self._files(artifact), folder)

    def fetch_adapter(self, version: str, adapter: str, folder: Path) -> None:
        self._there.begin()
        artifact = self._release(version)
        wanted, here = self._files(artifact), package.load(folder, bundle.BESIDE).digests
        of_adapter = {name for name in wanted if name.startswith(f"adapters/{adapter}/")}
        if not of_adapter:
            names = sorted({name.split("/")[1] for name in wanted if name.startswith("adapters/")})
            raise UserError(f"version {version} has no adapter {adapter!r}, only {', '.join(names) or 'none'}")
        there = {name: layer["digest"].removeprefix("sha256:") for name, layer in wanted.items()}
        differing = {name for name in there.keys() | here.keys() if there.get(name) != here.get(name)}
        beside = {paths.MANIFEST, *bundle.BESIDE}
        other = sorted(name for name in differing - beside if not name.startswith(f"adapters/{adapter}/"))
        if other:
            raise UserError(
                f"{other[0]} there is not that of version {version}, for which {adapter} was made: fetch the version "
                "whole, into a new folder"
            )
        self._check_attested(artifact)
        for name in differing - wanted.keys():
            (folder / name).unlink()
        self._download_all(version, {name: layer for name, layer in wanted.items() if name in differing}, folder)

    def _download_all(self, version: str, layers: dict[str, dict], folder: Path) -> None:
        needed = sum(layer["size"] for layer in layers.values())
        files.check_space(folder.parent, needed, f"version {version}")
        with tqdm(total=needed, desc="downloading", unit="B", unit_scale=True) as bar:
            for name, layer in layers.items():
                self._download(version, layer["digest"], folder, name, bar)

    def _download(self, version: str, digest: str, folder: Path, name: str, bar: tqdm) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:

            def write(chunk: bytes) -> None:
                file.write(chunk)
                bar.update(len(chunk))

            whole = self._there.download(digest, write)
        if not whole:
            raise UserError(
                f"{name} of version {version} is missing or damaged in {self._there.where}: `make publish` from its "
                "own commit sends it again"
            )

    def _artifact(self, package: Package) -> tuple[Manifest, bytes]:
        """Return the artifact of a release, the same whenever it is published from this commit, and its config."""
        sources, version = provenance.sources(package.folder), self.params.version
        seconds = int(shell.output("git", "show", "--no-patch", "--format=%ct", "HEAD"))
        created = datetime.fromtimestamp(seconds, UTC).isoformat()
        layers = [_layer(package.folder / name, name, digest) for name, digest in package.digests.items()]
        about = {"name": self.params.repository, "version": version, "createdAt": created}
        config = encoded(
            {
                "descriptor": {**about, "revision": sources["git_commit"]},
                "config": {"format": "onnx", "capabilities": {"inputTypes": ["text"], "outputTypes": ["text"]}},
                "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in layers]},
            }
        )
        value = {
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
        content = encoded(value)
        return Manifest(content, digest_of(content), value), config

    def _upload(self, package: Package, names: list[str] | None = None) -> None:
        """Send the files that the registry has not.

        :param names: send those whatever it says that it has
        """
        wanted = {f"sha256:{digest}": package.folder / name for name, digest in package.digests.items()}
        if names is None:
            lacking = {digest: path for digest, path in wanted.items() if not self._there.has(digest)}
            print(f"{len(lacking)} of {len(wanted)} files are not in {self._there.where} yet", flush=True)
        else:
            lacking = {f"sha256:{package.digests[name]}": package.folder / name for name in names}
        total = sum(path.stat().st_size for path in lacking.values())
        with tqdm(total=total, desc="uploading", unit="B", unit_scale=True) as bar:
            for digest, path in lacking.items():
                size = path.stat().st_size
                self._there.upload(digest, size, lambda path=path: distribution.file_content(path))
                bar.update(size)

    def _verify(self, artifact: Manifest, package: Package | None) -> None:
        """Download what an artifact names and compare it; send again what is not whole.

        :param package: has the artifact's files; None if they are not here
        """
        wrong = self._wrong(artifact)
        if wrong and package:
            print(f"{', '.join(wrong)} did not arrive whole: uploading again", flush=True)
            self._upload(package, wrong)
            wrong = self._wrong(artifact)
        if not wrong:
            return
        digest = self._files(artifact)[wrong[0]]["digest"]
        version, where = self.params.version, self._there.where
        if package:
            raise UserError(
                f"{wrong[0]} ({digest}) is damaged in {where}, which keeps it although it was sent again: let whoever "
                "runs the registry remove that blob, then run this again"
            )
        raise UserError(
            f"version {version} is another release of the same package, and {wrong[0]} of it is not whole in {where}: "
            "publish that one again from its own commit, or raise publish.oci.version in params.yaml and commit it"
        )

    def _wrong(self, artifact: Manifest) -> list[str]:
        """Return the names of the files that are missing or damaged in the registry."""
        return [
            name
            for name, layer in self._files(artifact).items()
            if not self._there.download(layer["digest"], lambda _: None)
        ]

    def _tag(self, artifact: Manifest, tag: str, before: Manifest | None) -> None:
        """Give an artifact its version's tag, which nobody else may have taken."""
        if not before:
            self._there.put_manifest(artifact.content, tag)
            before = self._there.manifest(tag)
        if not before or before.digest != artifact.digest:
            raise UserError(
                f"somebody else has just published {tag} with another content: raise publish.oci.version in "
                "params.yaml and commit it"
            )

    def _release(self, version: str) -> Manifest:
        """Return the artifact of a version.

        :raises UserError: if there is none, or the tag names something else
        """
        found = self._there.manifest(version)
        if not found:
            raise UserError(f"{self._there.where} has no tag {version}: `make publish` registers it")
        self._files(found)
        if _named(found) != version:
            raise UserError(
                f"somebody moved the tag {version} of {self._there.where}: it is at {found.digest}, which is "
                f"{_named(found)}; move it back, or raise publish.oci.version in params.yaml and commit it"
            )
        return found

    def _files(self, artifact: Manifest) -> dict[str, dict]:
        """Return the layer of each file.

        :raises UserError: if it is not what this registers
        """
        found: dict[str, dict] = {}
        try:
            if artifact.value["artifactType"] != MODEL:
                raise ValueError(artifact.value["artifactType"])
            for layer in artifact.value["layers"]:
                name = layer["annotations"][FILEPATH]
                fits = _is_inside(name) and DIGEST.fullmatch(layer["digest"]) and type(layer["size"]) is int
                if not fits or name in found:
                    raise ValueError(name)
                found[name] = layer
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self._there.where}@{artifact.digest} is no release: publish.oci.repository in params.yaml must name "
                "a repository for releases alone"
            ) from error
        return found

    def _is_signed(self, names: dict) -> bool:
        """Whether the digest of a release's artifact has to be signed."""
        return paths.SIGNATURE in names or bool(signature.why_required(self.signing))

    def _attest(self, artifact: Manifest) -> None:
        """Attach the model signature and the provenance to an artifact, unless they are."""
        layers = self._files(artifact)
        attached = dict(self._attached(artifact))
        if paths.SIGNATURE in layers and layers[paths.SIGNATURE]["digest"] not in attached:
            content = self._small(artifact, paths.SIGNATURE)
            notes = attestation.annotations(attestation.BUNDLE, attestation.MODEL_SIGNATURE)
            self._there.refer(artifact, attestation.BUNDLE, content, notes)
        expected = self._expected(artifact)
        if not self._is_signed(layers):
            media_type, content = attestation.STATEMENT, encoded(expected)
        elif any(attestation.holds(each, expected, self.signing) for each in attached.values()):
            return
        else:
            media_type, content = attestation.BUNDLE, attestation.signed(expected, self.signing)
        if digest_of(content) not in attached:
            notes = attestation.annotations(media_type, provenance.PREDICATE)
            self._there.refer(artifact, media_type, content, notes)

    def _check_attested(self, artifact: Manifest) -> None:
        """Refuse an artifact whose provenance does not refer to its digest, signed if it must be."""
        signing = self.signing if self._is_signed(self._files(artifact)) else None
        if signing:
            signature.check_public(signing)
        expected = self._expected(artifact)
        if not any(attestation.holds(content, expected, signing) for _, content in self._attached(artifact)):
            whose = "that is signed as params.yaml asks" if signing else "of its own"
            raise UserError(
                f"{self._there.where}@{artifact.digest} has no provenance {whose} among what refers to it: `make "
                "publish` from its own commit attaches it (and `oras cp --recursive` copies what is attached)"
            )

    def _expected(self, artifact: Manifest) -> dict:
        """Return what the provenance of an artifact says."""
        try:
            stated = packaged.parse(self._small(artifact, paths.PROVENANCE).decode())
        except (ValueError, RecursionError):
            stated = None
        if not isinstance(stated, dict):
            raise UserError(f"{paths.PROVENANCE} of {self._there.where}@{artifact.digest} is damaged: publish it anew")
        return attestation.about(artifact.digest, self._there.where, stated)

    def _small(self, artifact: Manifest, name: str) -> bytes:
        layer = self._files(artifact).get(name, {})
        content = self._there.small_blob(layer) if layer else None
        if content is None:
            raise UserError(
                f"{name} of {self._there.where}@{artifact.digest} is missing or damaged: `make publish` from its own "
                "commit sends it again"
            )
        return content

    def _attached(self, artifact: Manifest) -> list[tuple[str, bytes]]:
        """Return the digest and content of each bundle or statement that refers to an artifact."""
        found = []
        for entry in self._there.referrers(artifact.digest):
            if entry.get("artifactType") not in (attestation.BUNDLE, attestation.STATEMENT):
                continue
            referrer = self._there.manifest(str(entry.get("digest")))
            value = referrer.value if referrer else {}
            # Whoever may write there may list anything.
            if (value.get("subject") or {}).get("digest") != artifact.digest:
                continue
            for layer in value.get("layers") or []:
                if (content := self._there.small_blob(layer)) is not None:
                    found.append((layer["digest"], content))
        return found


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
    return path.as_posix() == name and bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _named(artifact: Manifest) -> str:
    return artifact.annotations.get(VERSION, "no version")


def _version(tag: str, artifact: Manifest, holders: dict[str, str]) -> Version:
    """Return what an artifact says of a version; without a digest if the tag names something else."""
    about = artifact.annotations
    moved = _named(artifact) != tag
    return Version(
        tag,
        "" if moved else about.get(PACKAGE, ""),
        about.get(CREATED, "")[:16].replace("T", " "),
        f"moved to {_named(artifact)}" if moved else about.get(METRICS, ""),
        sorted(stage for stage, digest in holders.items() if digest == artifact.digest and not moved),
    )


def _numbers(version: str) -> tuple[list[int], bool, str]:
    """Return what orders versions: a pre-release comes before its version."""
    numbers, _, pre = version.partition("-")
    return [int(number) for number in numbers.split(".")], not pre, pre
