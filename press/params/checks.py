"""What params.yaml says about the project's files, and what of it goes together, checked before anything runs."""

from collections.abc import Callable
from pathlib import Path

from press.core import paths
from press.core.errors import UserError
from press.data import formats, templates
from press.params import gates, objectives
from press.params.schema import Adapter, Training
from press.params.settings import Settings


def check(params: Settings) -> None:
    """Refuse what each key by itself may say, but not together."""
    check_gates(params)
    check_objectives(params)


def check_gates(params: Settings) -> None:
    """Refuse gates that are none, or are about an adapter that is not there."""
    for gate in params.gates:
        try:
            gates.check(gate)
            gates.check_subjects(gate, params.adapters)
        except UserError as error:
            raise UserError(f"{paths.PARAMS}: gates: {error}") from error


def check_objectives(params: Settings) -> None:
    """Refuse an adapter whose parameters do not go with what it learns for."""
    for name, adapter in params.adapters.items():
        if wrong := _against_objective(adapter):
            raise UserError(f"{paths.PARAMS}: adapters.{name}.{wrong}")


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


def _against_objective(adapter: Adapter) -> str | None:
    """Return what of an adapter's parameters does not go with its objective, or None.

    The types let it pass, so that a stage can read what it does not name with any other values.
    """
    training, own = adapter.training, adapter.training.objective
    if not objectives.learns_from_pairs(training):
        if adapter.format == formats.PREFERENCE:
            return (
                f"format is {formats.PREFERENCE}, but training.objective is {own}: choose {objectives.DPO}, or another "
                "format"
            )
        return None
    if adapter.format not in (None, formats.PREFERENCE):
        return (
            f"format is {adapter.format}, but training.objective is {own}, which learns from pairs of answers: choose "
            f"{formats.PREFERENCE} or null"
        )
    known = set(formats.known(formats.PREFERENCE, templates.names(adapter.template)))
    for name in adapter.fields:
        if name not in known:
            return f"fields names {name!r}, but the format {formats.PREFERENCE} has only {', '.join(sorted(known))}"
    return _against_pairs(training)


def _against_pairs(training: Training) -> str | None:
    own = training.objective
    if training.packing:
        return f"training.packing is true, but {own} compares two answers to one prompt: choose false"
    if training.processes > 1:
        return f"training.processes is {training.processes}, but {own} trains in one process: choose 1"
    if not training.response_only:
        return f"training.response_only is false, but {own} compares answers alone: choose true"
    return None
