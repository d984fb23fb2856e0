"""What params.yaml says about the project's files, and what of it goes together, checked before anything runs."""

from collections.abc import Callable
from pathlib import Path

from press.core import paths
from press.core.errors import UserError
from press.core.strict_yaml import dotted
from press.data import formats, templates
from press.params import gates, objectives
from press.params.resolving import Resolved
from press.params.schema import Adapter, Training
from press.params.sentences import Location
from press.params.settings import Settings

OBJECTIVE = ("training", "objective")


def check(params: Settings, resolved: Resolved) -> None:
    """Refuse what each key by itself may say, but not together.

    :param resolved: what the parameters were made of
    """
    check_gates(params, resolved)
    check_objectives(params, resolved)


def check_gates(params: Settings, resolved: Resolved) -> None:
    """Refuse gates that are none, or are about what is not there: an adapter, or tasks where none is named."""
    for key, gate in resolved.gates:
        try:
            gates.check(gate)
            gates.check_subjects(gate, params.adapters, subjects(params))
        except UserError as error:
            path, written = resolved.written(key)
            raise UserError(f"{path}: {dotted(written)}: {error}") from error


def subjects(params: Settings) -> list[str]:
    """Return what the metrics are about in this project alone, besides the adapters."""
    return [gates.TASKS] if params.evaluate.tasks.names else []


def check_objectives(params: Settings, resolved: Resolved | None = None) -> None:
    """Refuse an adapter whose parameters do not go with what it learns for.

    :param resolved: what the parameters were made of, to name the keys as they were written there
    """
    for name, adapter in params.adapters.items():
        if wrong := _against_objective(adapter):
            key, said, why = wrong
            own, objective = (_place(("adapters", name, *each), resolved) for each in (key, OBJECTIVE))
            path = resolved.path if resolved else paths.PARAMS
            raise UserError(f"{path}: {own} {said}, but {objective} is {adapter.training.objective}{why}")


def _place(key: Location, resolved: Resolved | None) -> str:
    """Return a key as params.yaml has it, which may say it once for all adapters."""
    path, written = resolved.written(key) if resolved else (None, key)
    return dotted(written if resolved and path == resolved.path else key)


def check_files(params: Settings) -> None:
    """Refuse parameters that name files which are not there."""
    made = {paths.DOWNLOADS / name for name in params.data_sets}
    for name, adapter in params.adapters.items():
        if Path(adapter.data).is_relative_to(paths.DOWNLOADS) and Path(adapter.data) not in made:
            raise UserError(
                f"{paths.PARAMS}: adapters.{name}.data names {adapter.data}, but data_sets has only "
                f"{', '.join(params.data_sets) or 'nothing'}, for {paths.DOWNLOADS}/NAME"
            )
        if Path(adapter.data) == Path():
            raise UserError(f"{paths.PARAMS}: adapters.{name}.data must name a file or a folder of the project")
        if Path(adapter.data) not in made and not _is_there(Path.exists, adapter.data):
            raise UserError(
                f"{paths.PARAMS}: adapters.{name}.data names {adapter.data}, which is neither a file nor a folder"
            )
    texts = {"quantize.calibration": params.quantize.calibration.data, "evaluate.general": params.evaluate.general.data}
    for block, path in texts.items():
        if not _is_there(Path.is_file, path):
            raise UserError(f"{paths.PARAMS}: {block}.data names {path}, which is not a file")


def _is_there(is_kind: Callable[[Path], bool], path: str) -> bool:
    try:
        return is_kind(Path(path))
    except OSError:
        # A name that is too long for a file.
        return False


def _against_objective(adapter: Adapter) -> tuple[Location, str, str] | None:
    """Return which of an adapter's parameters does not go with its objective, what it says, and why it does not go.

    The types let it pass, so that a stage can read what it does not name with any other values.
    """
    training = adapter.training
    if not objectives.learns_from_pairs(training):
        if adapter.format == formats.PREFERENCE:
            return ("format",), f"is {formats.PREFERENCE}", f": choose {objectives.DPO}, or another format"
        return None
    if adapter.format not in (None, formats.PREFERENCE):
        why = f", which learns from pairs of answers: choose {formats.PREFERENCE} or null"
        return ("format",), f"is {adapter.format}", why
    known = set(formats.known(formats.PREFERENCE, templates.names(adapter.template)))
    for name in adapter.fields:
        if name not in known:
            why = f", and the format {formats.PREFERENCE} has only {', '.join(sorted(known))}"
            return ("fields",), f"names {name!r}", why
    return _against_pairs(training)


def _against_pairs(training: Training) -> tuple[Location, str, str] | None:
    if training.packing:
        return ("training", "packing"), "is true", ", which compares two answers to one prompt: choose false"
    if training.processes > 1:
        return ("training", "processes"), f"is {training.processes}", ", which trains in one process: choose 1"
    if training.nodes > 1:
        return ("training", "nodes"), f"is {training.nodes}", ", which trains in one process: choose 1"
    if not training.response_only:
        return ("training", "response_only"), "is false", ", which compares answers alone: choose true"
    return None
