"""A registry of containers: a version is an OCI artifact as CNCF ModelPack describes it, with a layer for each file.

https://github.com/modelpack/model-spec. Tags can be moved and digests cannot: 0.1.0 and prod are tags, an artifact says
itself which version it is, and its provenance, signed as params.yaml asks, refers to it by digest. The version's tag is
written last, when all has been downloaded and compared: what has a tag is whole, and what a killed push left is used by
the next one. A stage is a tag with the same manifest, so that a promotion is a single change.
"""

import time
from pathlib import Path

from tqdm import tqdm

from press.core import files, paths
from press.core.errors import UserError
from press.model import packaged
from press.release import attestation, bundle, distribution, modelpack, package, provenance, settings, signature
from press.release.distribution import Manifest, Repository, encoded
from press.release.package import Package
from press.release.registry import STAGES, Registry, Version
from press.release.settings import Oci, Signing


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
        holders = {stage: manifest.digest for stage, manifest in stages.items() if manifest}
        tagged = [(tag, self._there.manifest(tag)) for tag in tags if settings.is_tag_of_version(tag)]
        # A tag may go between the two questions.
        known = [modelpack.version(tag, manifest, holders) for tag, manifest in tagged if manifest]
        return sorted(known, key=lambda each: (each.date, modelpack.order(each.version)))

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
        artifact, config = modelpack.of_release(package, self.params)
        self._upload(package)
        self._there.upload_bytes(config)
        self._there.put_manifest(artifact.content, artifact.digest)
        self._verify(artifact, package)
        self._attest(artifact, package)
        self._tag(artifact, self.params.version)
        print(f"artifact  {self._there.where}@{artifact.digest}", flush=True)

    def settle(self, package: Package) -> None:
        self._there.begin()
        artifact = self._release(self.params.version)
        layers = self._layers(artifact)
        # Another release of the same package, with figures of its own, stays as it was registered.
        ours = {name: layer["digest"].removeprefix("sha256:") for name, layer in layers.items()} == package.digests
        self._verify(artifact, package if ours else None)
        self._attest(artifact, package)

    def promote(self, version: str, stage: str) -> None:
        self._there.begin()
        began = time.monotonic()
        artifact, before = self._release(version), self._there.manifest(stage)
        if not before or before.digest != artifact.digest:
            self._there.put_manifest(artifact.content, stage)
            # Who promotes just then may still write, and publishing.promote says what holds after that.
            time.sleep(time.monotonic() - began)

    def fetch(self, version: str, folder: Path) -> None:
        self._there.begin()
        artifact = self._release(version)
        self._check_attested(artifact)
        self._download_all(version, self._layers(artifact), folder)

    def fetch_adapter(self, version: str, adapter: str, folder: Path) -> None:
        self._there.begin()
        artifact = self._release(version)
        wanted, here = self._layers(artifact), package.load(folder, bundle.BESIDE).digests
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
                self._download(version, layer, folder, name, bar)

    def _download(self, version: str, layer: dict, folder: Path, name: str, bar: tqdm) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:

            def write(chunk: bytes) -> None:
                file.write(chunk)
                bar.update(len(chunk))

            whole = self._there.download(layer, write)
        if not whole:
            raise UserError(
                f"{name} of version {version} is missing or damaged in {self._there.where}: `make publish` from its "
                "own commit sends it again"
            )

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
        digest = self._layers(artifact)[wrong[0]]["digest"]
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
            name for name, layer in self._layers(artifact).items() if not self._there.download(layer, lambda _: None)
        ]

    def _tag(self, artifact: Manifest, tag: str) -> None:
        """Give an artifact its version's tag, which nobody else may have taken."""
        began = time.monotonic()
        held = self._there.manifest(tag)
        if not held:
            self._there.put_manifest(artifact.content, tag)
            # Who saw no tag before this was written may still write: it takes them about as long as it took here.
            time.sleep(time.monotonic() - began)
            held = self._there.manifest(tag)
        if not held or held.digest != artifact.digest:
            raise UserError(
                f"somebody else has just published {tag} with another content: raise publish.oci.version in "
                "params.yaml and commit it"
            )

    def _release(self, version: str) -> Manifest:
        """Return the artifact of a version.

        :raises UserError: if there is none, or the tag names something else
        """
        artifact = self._there.manifest(version)
        if not artifact:
            raise UserError(f"{self._there.where} has no tag {version}: `make publish` registers it")
        self._layers(artifact)
        if modelpack.named(artifact) != version:
            raise UserError(
                f"somebody moved the tag {version} of {self._there.where}: it is at {artifact.digest}, which is "
                f"{modelpack.named(artifact)}; move it back, or raise publish.oci.version in params.yaml and commit it"
            )
        return artifact

    def _layers(self, artifact: Manifest) -> dict[str, dict]:
        return modelpack.layers(artifact, self._there.where)

    def _is_signed(self, names: dict) -> bool:
        """Whether the digest of a release's artifact has to be signed."""
        return paths.SIGNATURE in names or bool(signature.why_required(self.signing))

    def _attest(self, artifact: Manifest, package: Package) -> None:
        """Attach the model signature and the provenance to an artifact, unless they are.

        :param package: the release that is here; nothing is said of an artifact that is not this one's
        """
        layers = self._layers(artifact)
        attached = dict(self._attached(artifact))
        if paths.SIGNATURE in layers and layers[paths.SIGNATURE]["digest"] not in attached:
            content = self._small(artifact, paths.SIGNATURE)
            notes = attestation.annotations(attestation.BUNDLE, attestation.MODEL_SIGNATURE)
            self._there.refer(artifact, attestation.BUNDLE, content, notes)
        expected, signing = self._expected(artifact), self.signing if self._is_signed(layers) else None
        if any(not attestation.mismatch(each, expected, signing) for each in attached.values()):
            return
        if artifact.digest != modelpack.of_release(package, self.params)[0].digest:
            raise UserError(
                f"{self._there.where}@{artifact.digest} has no provenance that holds, and is not what this commit "
                f"publishes as {self.params.version}: publish that version from its own commit, or raise "
                "publish.oci.version in params.yaml and commit it"
            )
        if signing:
            media_type, content = attestation.BUNDLE, attestation.signed(expected, signing)
        else:
            media_type, content = attestation.STATEMENT, encoded(expected)
        notes = attestation.annotations(media_type, provenance.PREDICATE)
        self._there.refer(artifact, media_type, content, notes)

    def _check_attested(self, artifact: Manifest) -> None:
        """Refuse an artifact whose provenance does not refer to its digest, signed if it must be."""
        signing = self.signing if self._is_signed(self._layers(artifact)) else None
        if signing:
            signature.check_public(signing)
        expected = self._expected(artifact)
        wrong = {attestation.mismatch(content, expected, signing) for _, content in self._attached(artifact)}
        if "" in wrong:
            return
        whose = "that is signed as params.yaml asks" if signing else "of its own"
        reasons = f" ({'; '.join(sorted(wrong))})" if wrong else ""
        raise UserError(
            f"{self._there.where}@{artifact.digest} has no provenance {whose} among what refers to it{reasons}: `make "
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
        return attestation.about(artifact.digest, f"release {modelpack.named(artifact)}", stated)

    def _small(self, artifact: Manifest, name: str) -> bytes:
        layer = self._layers(artifact).get(name, {})
        content = self._there.small_blob(layer) if layer else None
        if content is None:
            raise UserError(
                f"{name} of {self._there.where}@{artifact.digest} is missing or damaged: `make publish` from its own "
                "commit sends it again"
            )
        return content

    def _attached(self, artifact: Manifest) -> list[tuple[str, bytes]]:
        """Return the digest and content of each bundle or statement that refers to an artifact."""
        attached = []
        for entry in self._there.referrers(artifact.digest):
            if entry.get("artifactType") not in (attestation.BUNDLE, attestation.STATEMENT):
                continue
            referrer = self._there.manifest(str(entry.get("digest")))
            # Whoever may write there may list anything.
            if not referrer or referrer.subject != artifact.digest:
                continue
            for layer in referrer.listed("layers"):
                if (content := self._there.small_blob(layer)) is not None:
                    attached.append((layer["digest"], content))
        return attached
