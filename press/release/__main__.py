"""Make a release of a built package, check one, read its bill of materials; publish, promote, list and fetch
versions; deploy one to where it runs.

    python -m press.release release                           (`make release`)
    python -m press.release check FOLDER                      (`make verify-package PACKAGE=FOLDER`)
    python -m press.release bom [FOLDER]                      (`make bom`, `make bom PACKAGE=FOLDER`)
    python -m press.release publish [--dry-run]               (`make publish`, `make publish DRY_RUN=1`)
    python -m press.release promote --version V --stage S     (`make promote VERSION=V STAGE=S`)
    python -m press.release versions                          (`make versions`)
    python -m press.release fetch --version V --to FOLDER     (`make fetch-model VERSION=V TO=FOLDER`, or STAGE=S)
    python -m press.release fetch … --adapter NAME            (`make fetch-model … ADAPTER=NAME`)
    python -m press.release deploy --to WHERE [--into FOLDER]    (`make deploy TO=WHERE INTO=FOLDER`)
    python -m press.release undeploy --to WHERE [--into FOLDER]  (`make undeploy TO=WHERE INTO=FOLDER`)

The blocks `publish` and `signing` of params.yaml say what, where, as which version, and who vouches for it.
"""

import argparse
from pathlib import Path

from press.core import cli, paths
from press.model import packaged
from press.params import reading
from press.release import bom, bounded, bundle, deploying, publishing, registry, settings

SECONDS = 1800


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    limit = f"time limit of each step that asks a server (default: {SECONDS})"
    parser.add_argument("--seconds", type=bounded.time_limit, default=SECONDS, help=limit)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("release", help="put the package, its provenance and its signature into releases/TARGET")
    verb = verbs.add_parser("check", help="check a release's files, provenance and signature")
    verb.add_argument("folder", nargs="?", help="default: releases/TARGET of the first target")
    verb = verbs.add_parser("bom", help="say what a release is made of, and under which licences")
    verb.add_argument("folder", nargs="?", help="default: releases/TARGET of the first target")
    verb = verbs.add_parser("publish", help="push the outputs and register the release")
    verb.add_argument("--dry-run", action="store_true", help="show what would go where, and change nothing")
    verb = verbs.add_parser("promote", help="give a stage to a version")
    verb.add_argument("--version", required=True)
    verb.add_argument("--stage", required=True, choices=registry.STAGES)
    verbs.add_parser("versions", help="list the versions")
    verb = verbs.add_parser("fetch", help="put a version into a new folder")
    which = verb.add_mutually_exclusive_group(required=True)
    which.add_argument("--version", default="")
    which.add_argument("--stage", default="", choices=registry.STAGES)
    verb.add_argument("--to", required=True, type=Path)
    verb.add_argument("--adapter", default="", help="bring this adapter alone, into a folder that has the rest")
    for name, does in (("deploy", "let the release run somewhere"), ("undeploy", "take it away from there")):
        verb = verbs.add_parser(name, help=does)
        verb.add_argument("--to", required=True, choices=deploying.PLACES)
        verb.add_argument("--into", default="", help="folder for foundry and tarball")
    return parser.parse_args()


def _folder(named: str | None) -> Path:
    return Path(named or paths.RELEASES / reading.first("targets"))


def main(words: argparse.Namespace) -> None:
    """Run one of the commands."""
    release = settings.load()
    match words.verb:
        case "release":
            with publishing.alone():
                bundle.make(release)
        case "check":
            print(*bundle.describe(*bundle.check(_folder(words.folder), release.signing)), sep="\n")
        case "bom":
            folder = _folder(words.folder)
            bundle.check(folder, release.signing)
            print(*bom.review(packaged.read_object(folder / bom.FILE), release.licences), sep="\n")
        case "publish":
            with publishing.alone():
                publishing.publish(release, words.seconds, dry_run=words.dry_run)
        case "promote":
            with publishing.alone():
                publishing.promote(release, words.seconds, words.version, words.stage)
        case "deploy":
            with publishing.alone():
                deploying.deploy(release, words.seconds, words.to, words.into)
        case "undeploy":
            with publishing.alone():
                deploying.undeploy(release, words.seconds, words.to, words.into)
        case "versions":
            publishing.versions(release, words.seconds)
        case "fetch" if words.adapter:
            which = words.version, words.stage, words.adapter
            publishing.fetch_adapter(release, words.seconds, *which, words.to)
        case "fetch":
            publishing.fetch(release, words.seconds, words.version, words.stage, words.to)


if __name__ == "__main__":
    cli.in_sentences(lambda: main(_words()))
