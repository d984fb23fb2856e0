"""What is done with releases: publish one, promote a version, list the versions, fetch one."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from press.core import files, locks, paths
from press.core.errors import UserError
from press.model import packaged
from press.release import bundle, licences, measured, package, storage, workspace
from press.release.package import Package
from press.release.registry import Registry, Version
from press.release.settings import Release, Signing

LOCK = Path(".dvc/tmp/publish.lock")


def alone() -> AbstractContextManager:
    """Hold the project's lock for publishing."""
    return locks.alone(LOCK, "another process is publishing from this folder: wait for it")


def checked(release: Release) -> Package:
    """Return the release that params.yaml names, if nothing keeps it from being given to others.

    :raises UserError: with what does
    """
    spec = release.publish
    folder = paths.RELEASES / spec.target
    workspace.check_committed()
    workspace.check_tracked(paths.PIPELINE, paths.LOCK, Path(f"{folder}.dvc"))
    workspace.check_up_to_date()
    workspace.check_artifact(spec.git.artifact, folder)
    built = package.load(paths.PACKAGES / spec.target)
    measured.check_gates(spec.target)
    licences.check(built.manifest["inputs"], release.licences)
    return bundle.check_released(built, spec.target, release)


def publish(release: Release, seconds: float, *, dry_run: bool) -> None:
    """Check the release, push all outputs, register the release; each step may be repeated.

    :raises UserError: with what keeps it from being published
    """
    spec, released = release.publish, checked(release)
    folder = paths.RELEASES / spec.target
    place = _registry(release, seconds)
    there = next((each for each in place.versions() if each.version == spec.version), None)
    if there and there.digest != released.digest:
        raise UserError(
            f"version {spec.version} is already published with another content ({there.digest[:12]}, here "
            f"{released.digest[:12]}): raise publish.{spec.registry}.version in params.yaml and commit it"
        )
    place.check(released)
    print(f"release   {folder}, {files.readable(files.size(folder))}, digest {released.digest}")
    print(f"storage   {storage.describe(seconds)}")
    print(f"registry  {'already published: ' if there else ''}{place.describe(released)}", flush=True)
    if dry_run:
        print("nothing was changed (dry run)")
        return
    storage.push(seconds)
    if there:
        place.settle(released)
        figures = packaged.shown(there.metrics)
        print(f"version {spec.version} is already published with this content; its figures stay: {figures}")
    else:
        place.register(released)
        print(f"version {spec.version} is published")


def promote(release: Release, seconds: float, version: str, stage: str) -> None:
    """Give a stage to a version, and say what holds then.

    :raises UserError: if there is no such version, or another one has the stage after all
    """
    place = _registry(release, seconds)
    registered = _find(place, version, "")
    place.promote(registered.version, stage)
    # Somebody else may have promoted something just then.
    holder = next((each for each in place.versions() if stage in each.stages), None)
    if not holder or holder.version != registered.version:
        raise UserError(
            f"{stage} is {'version ' + holder.version if holder else 'no version'} now: somebody else promoted at the "
            "same time; run this again if it is to be another"
        )
    print(f"version {holder.version} is {', '.join(holder.stages)} now")


def versions(release: Release, seconds: float) -> None:
    """Print all versions."""
    rows = [("version", "stage", "digest", "metrics", "date")]
    for each in _registry(release, seconds).versions():
        stages = ", ".join(each.stages) or "–"
        rows.append((each.version, stages if each.whole else "unfinished", each.digest[:12], each.metrics, each.date))
    # Whoever may write there may have written anything.
    shown = [[packaged.shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def fetch(release: Release, seconds: float, version: str, stage: str, target: Path) -> None:
    """Put a version into a new folder, whole and checked, or not at all.

    :raises UserError: if the folder is none for it, there is no such version, or what came is not what was registered
    """
    package.check_new(target)
    place = _registry(release, seconds)
    registered = _find(place, version, stage)
    with _replacing(target) as coming:
        place.fetch(registered.version, coming)
        checked = _came(coming, registered, release.signing)
    print(f"{target}: version {registered.version}", *bundle.describe(*checked), sep="\n")


def fetch_adapter(release: Release, seconds: float, version: str, stage: str, adapter: str, target: Path) -> None:
    """Bring an adapter of a version into a folder that holds the rest of it, whole and checked, or not at all.

    :raises UserError: if the folder holds another base, there is no such version or adapter, or what came does not hold
    """
    package.check_own(target)
    if not target.is_dir():
        raise UserError(f"{target} is no folder with a package: fetch a version into it first, without ADAPTER")
    package.load(target, bundle.BESIDE)
    place = _registry(release, seconds)
    registered = _find(place, version, stage)
    with _replacing(target) as coming:
        shutil.copytree(target, coming)
        place.fetch_adapter(registered.version, adapter, coming)
        checked = _came(coming, registered, release.signing)
    print(f"{target}: version {registered.version}, adapter {adapter}", *bundle.describe(*checked), sep="\n")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield the path of a new folder that takes the place of `target` when the block succeeds."""
    with files.building(target) as scratch:
        try:
            yield scratch / "release"
            files.publish(scratch / "release", target)
        except UserError:
            # Nobody wants to look at it, and git would see it.
            files.remove(scratch)
            raise


def _came(folder: Path, registered: Version, signing: Signing) -> tuple[Package, str, str | None]:
    """Check what came of a version."""
    checked = _checked(folder, registered.version, signing)
    came = checked[0].digest
    if came != registered.digest:
        raise UserError(
            f"version {registered.version} is {registered.digest[:12]}, but {came[:12]} came: publish it anew"
        )
    return checked


def _checked(folder: Path, version: str, signing: Signing) -> tuple[Package, str, str | None]:
    try:
        return bundle.check(folder, signing)
    except UserError as error:
        raise UserError(
            f"version {version}, as it came, does not hold ({error}): `make publish` from its own commit sends what is "
            "missing or damaged again, and removes what is too much"
        ) from error


def _find(place: Registry, version: str, stage: str) -> Version:
    registered = place.versions()
    for each in registered:
        if each.version == version.removeprefix("v") or (stage and stage in each.stages):
            if not each.whole:
                raise UserError(f"the publication of version {each.version} did not end: run `make publish` again")
            return each
    names = ", ".join(f"{each.version} {each.stages}" if each.stages else each.version for each in registered)
    there = f"only {names}" if registered else "and none at all yet: `make publish` registers one"
    raise UserError(f"there is no version {version or 'that is ' + stage}, {there}")


def _registry(release: Release, seconds: float) -> Registry:
    """Return the registry that params.yaml names.

    :param seconds: time limit of each of its steps
    """
    publish = release.publish
    if publish.registry == "git":
        from press.release.git import GitRegistry

        return GitRegistry(publish.git, seconds)
    if publish.registry == "oci":
        from press.release.oci import OciRegistry

        return OciRegistry(publish.oci, release.signing, seconds)
    from press.release.azureml import AzuremlRegistry

    return AzuremlRegistry(publish.azureml, seconds)
