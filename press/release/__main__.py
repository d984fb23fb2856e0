"""Publish a built package, promote a version of it, list the versions, fetch one.

    python -m press.release publish [--dry-run]               (`make publish`, `make publish DRY_RUN=1`)
    python -m press.release promote --version V --stage S     (`make promote VERSION=V STAGE=S`)
    python -m press.release versions                          (`make versions`)
    python -m press.release fetch --version V --to FOLDER     (`make fetch-model VERSION=V TO=FOLDER`, or STAGE=S)

The block `publish` of params.yaml says what, where, and as which version.
"""

import argparse
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from press import files
from press.errors import UserError
from press.release import package, registry, settings, storage

LOCK = Path(".dvc/tmp/publish.lock")


@contextmanager
def alone() -> Iterator[None]:
    """Hold the project's lock for publishing.

    :raises UserError: if another process holds it
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError("another process is publishing from this folder: wait for it") from error
        yield


def publish(seconds: float, *, dry_run: bool) -> None:
    """Check the package, push all outputs, register the package; each step may be repeated.

    :raises UserError: with what keeps the package from being published
    """
    release = settings.load().publish
    folder = package.PACKAGES / release.target
    package.check_committed()
    package.check_up_to_date()
    package.check_artifact(release.git.artifact, folder)
    built = package.load(folder)
    package.check_gates(built)
    place = registry.of(release)
    there = next((each for each in place.versions() if each.version == release.version), None)
    if there and there.digest != built.digest:
        raise UserError(
            f"version {release.version} is already published with another content ({there.digest[:12]}, here "
            f"{built.digest[:12]}): raise publish.{release.registry}.version in params.yaml and commit it"
        )
    print(f"package   {folder}, {files.size(folder) / 1e6:.1f} MB, digest {built.digest}")
    print(f"storage   {storage.describe(seconds)}")
    print(f"registry  {'already published: ' if there else ''}{place.describe(built)}", flush=True)
    if dry_run:
        print("nothing was changed (dry run)")
        return
    storage.push(seconds)
    if there:
        place.settle()
        print(f"version {release.version} is already published with this content")
    else:
        place.register(built)
        print(f"version {release.version} is published")


def promote(version: str, stage: str) -> None:
    """Give a stage to a version.

    :raises UserError: if there is no such version
    """
    place = registry.of(settings.load().publish)
    found = _find(place, version, "")
    place.promote(found.version, stage)
    print(f"version {found.version} is {stage} now")


def versions() -> None:
    """Print all versions."""
    rows = [("version", "stage", "digest", "metrics", "date")]
    for each in registry.of(settings.load().publish).versions():
        rows.append((each.version, ", ".join(each.stages) or "–", each.digest[:12], each.metrics, each.date))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def fetch(version: str, stage: str, target: Path) -> None:
    """Put a version into a new folder, whole and checked, or not at all.

    :raises UserError: if there is no such version, or what came is not what was registered
    """
    if target.exists():
        raise UserError(f"{target} exists: name a new folder")
    place = registry.of(settings.load().publish)
    found = _find(place, version, stage)
    with files.building(target) as scratch:
        place.fetch(found.version, scratch / "package")
        came = package.load(scratch / "package")
        if came.digest != found.digest:
            raise UserError(
                f"version {found.version} is {found.digest[:12]}, but {came.digest[:12]} came: publish it anew"
            )
        files.publish(scratch / "package", target)
    print(f"{target}: version {found.version}, all files as its manifest names them")


def _find(place: registry.Registry, version: str, stage: str) -> registry.Version:
    found = place.versions()
    for each in found:
        if each.version == version.removeprefix("v") or (stage and stage in each.stages):
            return each
    names = ", ".join(f"{each.version} {each.stages}" if each.stages else each.version for each in found) or "none"
    raise UserError(f"there is no version {version or 'that is ' + stage}, only {names}")


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("publish", help="push the outputs and register the package")
    verb.add_argument("--dry-run", action="store_true", help="show what would go where, and change nothing")
    verb.add_argument("--seconds", type=float, default=1800, help="time limit of each step (default: 1800)")
    verb = verbs.add_parser("promote", help="give a stage to a version")
    verb.add_argument("--version", required=True)
    verb.add_argument("--stage", required=True, choices=registry.STAGES)
    verbs.add_parser("versions", help="list the versions")
    verb = verbs.add_parser("fetch", help="put a version into a new folder")
    which = verb.add_mutually_exclusive_group(required=True)
    which.add_argument("--version", default="")
    which.add_argument("--stage", default="", choices=registry.STAGES)
    verb.add_argument("--to", required=True, type=Path)
    return parser.parse_args()


def main(words: argparse.Namespace) -> None:
    """Run one of the commands."""
    match words.verb:
        case "publish":
            with alone():
                publish(words.seconds, dry_run=words.dry_run)
        case "promote":
            with alone():
                promote(words.version, words.stage)
        case "versions":
            versions()
        case "fetch":
            fetch(words.version, words.stage, words.to)


if __name__ == "__main__":
    try:
        main(_words())
    except UserError as error:
        sys.exit(f"error: {error}")
