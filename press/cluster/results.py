"""What a job reports: its stage's lines of dvc.lock, and those of its outputs that git keeps."""

import base64
from pathlib import Path

from press.cluster.plan import TIMES, Job, known_times
from press.core import files, paths

EMPTY = "schema: '2.0'\nstages: {}\n"


def lock_text() -> str:
    """Return dvc.lock as it stands."""
    return paths.LOCK.read_text(encoding="utf-8") if paths.LOCK.exists() else EMPTY


def take(job: Job, result: dict) -> None:
    """Put a job's result into the project, the lines of dvc.lock last, so that these stand for all of it."""
    for out in job.reports:
        files.remove(Path(out))
    for name, content in result["reports"].items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(content))
    files.write_json(TIMES, known_times() | {job.stage: result["seconds"]})
    _record(job.stage, result["entry"])


def _record(stage: str, entry: dict) -> None:
    """Write a stage's lines of dvc.lock as DVC does, the file whole or not at all."""
    from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

    lock = parse_yaml_for_update(lock_text(), str(paths.LOCK))
    lock["stages"][stage] = entry
    building = files.partial(paths.LOCK)
    building.write_text(dumps_yaml(lock), encoding="utf-8")
    building.replace(paths.LOCK)
