"""What a job reports: its stage's lines of dvc.lock, and those of its outputs that git keeps."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Base64Bytes, BaseModel, Field

from press.cluster.plan import TIMES, Job, known_times
from press.core import files, paths
from press.core.errors import UserError

EMPTY = "schema: '2.0'\nstages: {}\n"
# All lines about stages, and those about one: its name, and all below that is further in.
STAGES = re.compile(r"^stages:\n(?:(?: .*)?\n)*", re.MULTILINE)
STAGE = re.compile(r"^  (\S+):\n(?:(?: {4}.*)?\n)*", re.MULTILINE)


def lock_text() -> str:
    """Return dvc.lock as it stands."""
    return paths.LOCK.read_text(encoding="utf-8") if paths.LOCK.exists() else EMPTY


def lock_of(stages: Iterable[str]) -> str:
    """Return those lines of dvc.lock that are about some stages, as a file of its own."""
    text = lock_text()
    there = _lines_of(text)
    lines = [text[slice(*there[stage])] for stage in stages if stage in there]
    return EMPTY.replace(" {}", "") + "".join(lines) if lines else EMPTY


class Result(BaseModel):
    """What a job says when it has ended well, whatever else it says.

    :param entry: its stage's lines of dvc.lock
    :param reports: the files of its outputs that DVC does not keep, by their paths
    """

    entry: dict[str, Any]
    reports: dict[str, Base64Bytes]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


def take(job: Job, said: dict) -> float:
    """Put a job's result into the project, the lines of dvc.lock last, so that these stand for all of it.

    What the stage made before goes, as with `dvc repro`: what DVC keeps of it now is on the remote.

    :return: the seconds that it took
    :raises UserError: if it is not this job's, or damaged; then nothing of it is here
    """
    result = _checked(job, said)
    for out in (*job.outputs, *job.reports):
        files.remove(Path(out))
    for name, content in result.reports.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    files.write_json(TIMES, known_times() | {job.stage: result.seconds})
    _record(job.stage, result.entry)
    return result.seconds


def _checked(job: Job, said: dict) -> Result:
    """Return a job's result, all of which is of its own outputs."""
    try:
        result = Result.model_validate(said)
        outs = {out["path"] for out in result.entry["outs"]}
    except (LookupError, TypeError, ValueError) as error:
        raise UserError("what its machine says of its end is damaged: look at that machine") from error
    if outs != {*job.outputs, *job.reports}:
        raise UserError(
            f"its machine tells of the outputs {', '.join(sorted(map(str, outs)))}, which are another job's"
        )
    for name in result.reports:
        path = PurePosixPath(name)
        if ".." in path.parts or not any(path.is_relative_to(out) for out in job.reports):
            raise UserError(f"its machine tells of a report {name!r}, which is none of its outputs")
    return result


def _record(stage: str, entry: dict) -> None:
    """Write a stage's lines of dvc.lock as DVC does, the file whole or not at all.

    The other lines stay as they stand: to read and write them all as YAML takes a second for some hundred stages.

    :raises UserError: if the file is not as DVC writes it
    """
    from dvc.utils.serialize import dumps_yaml

    text = lock_text().replace("stages: {}\n", "stages:\n")
    all_lines = STAGES.search(text)
    if not all_lines:
        raise UserError(
            f"{paths.LOCK} is not as DVC writes it: `git restore {paths.LOCK}` brings the committed one back"
        )
    lines = dumps_yaml({"stages": {stage: entry}}).partition("\n")[2]
    before = _lines_of(text).get(stage)
    start, end = before or (all_lines.end(), all_lines.end())
    building = files.fresh(paths.LOCK)
    building.write_text(text[:start] + lines + text[end:], encoding="utf-8")
    files.put(building, paths.LOCK)


def _lines_of(text: str) -> dict[str, tuple[int, int]]:
    """Map each stage of the text of dvc.lock to where its lines begin and end."""
    return {match[1].strip("'\""): match.span() for match in STAGE.finditer(text)}
