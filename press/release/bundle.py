"""A release: a built package with its provenance and its signature, as one folder that DVC tracks.

The package itself cannot hold them: it has the same bytes whenever it is rebuilt, while its provenance names the
commit that holds its digest, and no two signatures are alike.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from press import files
from press.errors import UserError
from press.release import package, provenance, signature
from press.release.package import Package
from press.release.settings import Release, Signing

RELEASES = Path("releases")


def make(release: Release) -> None:
    """Put the built package, its provenance and, if there is a key, its signature into releases/TARGET.

    A release of the same package that is whole and signed as params.yaml asks stays as it is.

    :raises UserError: with what keeps the package from being released
    """
    target = release.publish.target
    package.check_committed()
    package.check_up_to_date(but=RELEASES)
    built = package.load(package.PACKAGES / target)
    package.check_gates(built)
    folder = RELEASES / target
    if not _is_released(built, folder, release.signing):
        with files.replaced(folder) as building:
            shutil.copytree(built.folder, building, dirs_exist_ok=True)
            provenance.write(provenance.state(built), building)
            _sign(building, release.signing)
    _track(folder)
    for line in describe(folder, release.signing):
        print(line)
    print(f"{folder}: commit {folder}.dvc and {RELEASES}/.gitignore, then `make publish`")


def check(folder: Path, signing: Signing) -> tuple[Package, str, str | None]:
    """Check a release: its files against the manifest, its provenance and its signature.

    :return: the package, the commit that it was built from, and who signed it, or None
    :raises UserError: naming the first file that is missing, damaged or not in the manifest; if the provenance or the
        signature does not hold; or if there is no signature where params.yaml requires one
    """
    found = package.load(folder)
    digests = {name: digest for name, digest in files.digests(folder).items() if name not in package.ADDED}
    commit = provenance.check(folder, digests)
    if (folder / signature.SIGNATURE).exists():
        return found, commit, signature.check(folder, signing)
    if signing.required:
        raise UserError(f"{folder} is not signed, but signing.required is true in params.yaml: `make release` signs it")
    return found, commit, None


def describe(folder: Path, signing: Signing) -> list[str]:
    """Check a release and say in lines what holds.

    :raises UserError: as `check` does
    """
    found, commit, signer = check(folder, signing)
    return [
        f"manifest    {len(found.manifest['files'])} files, each with the SHA-256 that it names; digest {found.digest}",
        f"provenance  built from commit {commit}; about the same files",
        f"signature   {'by ' + signer if signer else 'none'}",
    ]


def check_released(built: Package, folder: Path, signing: Signing) -> None:
    """Refuse a release that is missing, damaged, of another package, or not signed as it must be.

    :raises UserError: with what to do
    """
    if not folder.exists():
        raise UserError(f"{folder} is missing: `make release`, commit what it names, then publish")
    found, _, _ = check(folder, signing)
    if found.digest != built.digest:
        raise UserError(f"{folder} is another package than {built.folder}: `make release`, commit, then publish")


def _is_released(built: Package, folder: Path, signing: Signing) -> bool:
    try:
        check_released(built, folder, signing)
    except UserError:
        return False
    return (folder / signature.SIGNATURE).exists() or not signature.can_sign(signing)


def _sign(building: Path, signing: Signing) -> None:
    if signature.can_sign(signing):
        signature.sign(building, signing)
    elif signing.required:
        raise UserError(
            f"{signature.private_key(signing)} is missing, but signing.required is true in params.yaml: "
            "`make signing-key` makes a key, or name yours there"
        )
    else:
        print(f"not signed: there is no key {signature.private_key(signing)} (`make signing-key` makes one)")


def _track(folder: Path) -> None:
    words = ["add", "--quiet", str(folder)]
    result = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("ERROR: ")
        raise UserError(f"DVC could not take {folder} up: {reason}")
