"""What was measured of a package, and on which class of machine: it lies beside the package in a release.

It is no part of the package, whose bytes are the same wherever they are built: the manifest does not name it, but the
provenance and the signature do.
"""

import shutil
import tempfile
from pathlib import Path

from press.core import files, paths
from press.core.errors import UserError
from press.package import machines

FILES = (paths.CARD, paths.GATES, paths.METRICS)


def check_gates(target: str) -> None:
    """Refuse a target whose package did not pass its quality gates, or that has none.

    :raises UserError: naming each gate that failed, with its figures
    """
    folder = paths.PACKAGES / target
    gates = files.read_json(paths.EVALUATED / target / paths.GATES)["gates"]
    if not gates:
        raise UserError(f"{folder} has no quality gates: write some under `gates` in params.yaml, `dvc repro`")
    failed = [f"{gate['gate']} ({gate['reason']})" for gate in gates if not gate["passed"]]
    if failed:
        raise UserError(f"{folder} did not pass {'; '.join(failed)}: train, quantize or set the gates otherwise")


def join(target: str, folder: Path) -> None:
    """Put what was measured of a target's package into a folder: card, metrics, and gates with the class of machine."""
    evaluated = paths.EVALUATED / target
    for name in (paths.CARD, paths.METRICS):
        shutil.copyfile(evaluated / name, folder / name)
    judged = files.read_json(evaluated / paths.GATES)
    files.write_json(folder / paths.GATES, judged | {"machine": machines.measured_on(target)})


def is_joined(target: str, digests: dict[str, str]) -> bool:
    """Whether a folder has what was measured last.

    :param digests: the SHA-256 of each of the folder's files
    """
    with tempfile.TemporaryDirectory() as scratch:
        join(target, Path(scratch))
        return files.digests(Path(scratch)).items() <= digests.items()
