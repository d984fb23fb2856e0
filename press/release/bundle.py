"""A release: a built package with what was measured of it, its provenance and its signature, in one folder of DVC's.

The package itself cannot hold them: it has the same bytes whenever and wherever it is rebuilt, while figures differ
between classes of machines, its provenance names the commit that holds its digest, and no two signatures are alike.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from press.core import files, paths, shell
from press.core.errors import UserError
from press.release import bom, licences, measured, package, provenance, signature, workspace
from press.release.package import Package
from press.release.settings import Release, Signing

# What lies beside the package's own files.
BESIDE = (*measured.FILES, *bom.FILES, paths.PROVENANCE, paths.SIGNATURE)


def make(release: Release) -> None:
    """Put the built package, what was measured, provenance and, if there is a key, a signature into releases/TARGET.

    A release of the same package and figures that is whole and signed as params.yaml asks stays as it is.

    :raises UserError: with what keeps the package from being released
    """
    target = release.publish.target
    workspace.check_committed()
    workspace.check_up_to_date(but=paths.RELEASES)
    built = package.load(paths.PACKAGES / target)
    measured.check_gates(target)
    licences.check(built.manifest["inputs"], release.licences)
    if signature.can_sign(release.signing):
        signature.check_public(release.signing)
    folder = paths.RELEASES / target
    if not _is_released(built, target, release) or workspace.is_changed(folder):
        with files.building(folder) as scratch:
            # By whose name the signature calls it.
            building = scratch / target
            shutil.copytree(built.folder, building)
            measured.join(target, building)
            bom.write(replace(built, folder=building), release, building)
            provenance.write(provenance.state(package.load(building, BESIDE), target), building)
            _sign(building, release.signing)
            files.publish(building, folder)
    _track(folder)
    print(*describe(*check(folder, release.signing)), sep="\n")
    print(f"{folder}: commit {folder}.dvc and {paths.RELEASES}/.gitignore, then `make publish`")


def check(folder: Path, signing: Signing) -> tuple[Package, str, str | None]:
    """Check a release: its files against the manifest, its provenance and its signature.

    :return: the package, the commit that it was built from, and who signed it, or None
    :raises UserError: naming the first file that is missing, damaged or not in the manifest; if the provenance or the
        signature does not hold; or if there is no signature where params.yaml requires one
    """
    released = package.load(folder, BESIDE)
    commit = provenance.check(released)
    if paths.SIGNATURE in released.digests:
        return released, commit, signature.check(folder, signing)
    if why := signature.why_required(signing):
        raise UserError(f"{folder} is not signed, but {why}: `make release` signs it")
    return released, commit, None


def describe(released: Package, commit: str, signer: str | None) -> list[str]:
    """Say in lines what `check` found to hold."""
    return [
        f"manifest    {len(released.manifest['files'])} files, each with the SHA-256 that it names; "
        f"digest {released.digest}",
        f"provenance  built from commit {commit}; about the same files, and {', '.join(measured.FILES)}",
        f"signature   {'by ' + signer if signer else 'none'}",
    ]


def check_released(built: Package, target: str, release: Release) -> Package:
    """Return a target's release; refuse one that is missing, damaged, of another package, with other figures than were
    measured last or another bill of materials, or not signed as it must be.

    :raises UserError: with what to do
    """
    folder = paths.RELEASES / target
    released, _, _ = check(folder, release.signing)
    if released.digest != built.digest:
        raise UserError(f"{folder} is another package than {built.folder}: `make release`, commit, then publish")
    if not measured.is_joined(target, released.digests):
        evaluated = paths.EVALUATED / target
        raise UserError(f"{folder} has other figures than {evaluated}: `make release`, commit, then publish")
    for name, text in bom.texts(released, release, provenance.stated_commit(folder)).items():
        written = folder / name
        if not written.is_file() or written.read_text(encoding="utf-8") != text:
            raise UserError(f"{written} is not of what is here: `make release`, commit, then publish")
    return released


def _is_released(built: Package, target: str, release: Release) -> bool:
    try:
        released = check_released(built, target, release)
    except UserError:
        return False
    return paths.SIGNATURE in released.digests or not signature.can_sign(release.signing)


def _sign(building: Path, signing: Signing) -> None:
    if signature.can_sign(signing):
        signature.sign(building, signing)
    elif why := signature.why_required(signing):
        raise UserError(
            f"{signature.private_key(signing)} is missing, but {why}: name your key there, let `make signing-key` "
            "make a pair, or set signing.required to false"
        )
    else:
        print(f"not signed: there is no key {signature.private_key(signing)} (`make signing-key` makes one)")


def _track(folder: Path) -> None:
    shell.output(sys.executable, "-m", "dvc", "add", "--quiet", str(folder))
    # DVC ends with 0 where its cache has no room.
    if workspace.status(f"{folder}.dvc"):
        raise UserError(f"{folder} did not get into DVC's cache: free some of its disk, then `make release` again")
