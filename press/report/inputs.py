"""What a report is made of: the files that the pipeline, the benchmarks and a release left, read once."""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from press.core import files, paths
from press.core.errors import UserError
from press.data import templates
from press.package import machines

BENCH = paths.REPORTS / "bench" / "runtime.json"
BIN = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Training:
    """What an adapter learned from: the losses of its training, and the lengths of its examples."""

    # (step, loss in nats a token)
    train: list[tuple[int, float]]
    heldout: list[tuple[int, float]]
    # (fewest tokens, most tokens, examples)
    lengths: list[tuple[int, int, int]]
    # reports/prepare/ADAPTER/report.json
    counts: dict


@dataclass(frozen=True)
class Inputs:
    """Everything that a report of a target says, still in the form of its files."""

    target: str
    manifest: dict
    manifest_sha256: str
    metrics: dict
    # what became of each gate: {"gate", "passed", "reason"}
    gates: list[dict]
    answered: dict[str, str]
    # adapter: [{"prompt", "bare", "adapter"}]
    answers: dict[str, list[dict[str, Any]]]
    training: dict[str, Training]
    # stage: what it ran on
    machines: dict[str, dict]
    # package: version, of every stage's libraries
    libraries: dict[str, str]
    # None where `make bench` or `make release` did not run; either may be of another package
    bench: dict | None
    release: dict | None

    @property
    def params(self) -> dict:
        """The parameters that the package was built with."""
        return self.manifest["inputs"]["params"]

    @property
    def speeds(self) -> dict | None:
        """The benchmark, if it is of this package."""
        timed = (self.bench or {}).get("package", {}).get("sha256", {})
        return self.bench if timed and timed.items() <= self.manifest["files"].items() else None

    def template(self, adapter: str) -> str:
        """Return the template by which an adapter is asked, whether it is its own or the base model's."""
        own = self.params["adapters"][adapter]["template"]
        if own != templates.CHAT:
            return own
        path = paths.PACKAGES / self.target / "adapters" / adapter / paths.ADAPTER_MANIFEST
        return _json(path)["template"]

    @property
    def adapters(self) -> list[str]:
        return list(self.params["adapters"])


def collect(target: str) -> Inputs:
    """Read what there is about a target, from the working folder.

    :raises UserError: if its package is not built, or a file is damaged
    """
    folder = paths.PACKAGES / target
    manifest = folder / paths.MANIFEST
    if not manifest.exists():
        raise UserError(f"{folder} is not built: run `dvc repro` (or `dvc checkout`, if dvc.lock has it), then again")
    try:
        content = _json(manifest)
        _ = [content[key] for key in ("name", "inputs", "files")]
        return _collect(target, manifest, content)
    except KeyError as error:
        raise UserError(f"{manifest} does not say {error}: build the package again with `dvc repro`") from error


def _collect(target: str, path: Path, manifest: dict) -> Inputs:
    evaluated = paths.EVALUATED / target
    adapters = manifest["inputs"]["params"]["adapters"]
    return Inputs(
        target=target,
        manifest=manifest,
        manifest_sha256=files.sha256(path),
        metrics=_json(evaluated / paths.METRICS),
        gates=_gates(evaluated / paths.GATES),
        answered=_json(evaluated / paths.GATES).get("answers", {}),
        answers=_json(evaluated / paths.ANSWERS),
        training={name: _training(name) for name in adapters},
        machines=machines.recorded(target, adapters),
        libraries=_libraries(),
        bench=_bench(),
        release=_release(paths.RELEASES / target),
    )


def _gates(path: Path) -> list[dict]:
    try:
        return _json(path)["gates"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} has no gates: run `dvc repro`") from error


def _training(adapter: str) -> Training:
    prepared = paths.PREPARATIONS / adapter
    plots = paths.FINETUNED / adapter / "plots" / "metrics"
    return Training(
        train=_curve(plots / "train" / "loss.tsv"),
        heldout=_curve(plots / "heldout" / "loss.tsv"),
        lengths=_lengths(prepared / "lengths.csv"),
        counts=_json(prepared / "report.json"),
    )


def _curve(path: Path) -> list[tuple[int, float]]:
    return [(int(row["step"]), float(row["loss"])) for row in _rows(path, "\t", ("step", "loss"))]


def _lengths(path: Path) -> list[tuple[int, int, int]]:
    bins = []
    for row in _rows(path, ",", ("tokens", "examples")):
        match = BIN.fullmatch(row["tokens"])
        if not match:
            raise UserError(f"{path} has the bin {row['tokens']!r}, where 0016-0031 is the form: run `dvc repro`")
        bins.append((int(match[1]), int(match[2]), int(row["examples"])))
    if not bins:
        raise UserError(f"{path} has no rows: run `dvc repro`")
    return bins


def _rows(path: Path, delimiter: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    rows = list(csv.DictReader(_text(path).splitlines(), delimiter=delimiter))
    if any(row.get(column) is None for row in rows for column in columns):
        raise UserError(f"{path} must have the columns {' and '.join(columns)}: run `dvc repro`")
    return rows


def _libraries() -> dict[str, str]:
    versions = {}
    for path in sorted(paths.ENVIRONMENT.glob("*.txt")):
        versions |= dict(line.split("==", 1) for line in _text(path).splitlines() if "==" in line)
    return versions


def _bench() -> dict | None:
    if not BENCH.exists():
        return None
    bench = _json(BENCH)
    if not bench.get("contestants"):
        raise UserError(f"{BENCH} has no contestants: measure again with `make bench`, or remove it")
    return bench


def _release(folder: Path) -> dict | None:
    """Return what a release's provenance says of commit, builder and manifest, and whether it is signed."""
    path = folder / paths.PROVENANCE
    if not path.exists():
        return None
    statement = _json(path)
    try:
        predicate = statement["predicate"]
        subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
        return {
            "commit": predicate["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"],
            "builder": predicate["runDetails"]["builder"]["id"],
            "manifest_sha256": subjects[paths.MANIFEST],
            "signed": (folder / paths.SIGNATURE).exists(),
        }
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path} is no provenance of a release: run `make release` again") from error


def _json(path: Path) -> dict:
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: run `dvc repro` (or, if it is of a benchmark, `make bench`)") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run `dvc repro`") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start + 1}): run `dvc repro`") from error
