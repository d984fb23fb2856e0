"""What params.yaml says about the project's files, checked before anything runs."""

from pathlib import Path

from press.core import paths
from press.core.errors import UserError
from press.params import gates
from press.params.settings import Settings


def check_gates(params: Settings) -> None:
    """Refuse gates that are none, or are about an adapter that is not there."""
    for gate in params.gates:
        try:
            gates.check(gate)
            gates.check_subjects(gate, params.adapters)
        except UserError as error:
            raise UserError(f"{paths.PARAMS}: gates: {error}") from error


def check_files(params: Settings) -> None:
    """Refuse parameters that name files which are not there."""
    made = {paths.DOWNLOADS / name for name in params.data_sets}
    for name, adapter in params.adapters.items():
        if Path(adapter.data).is_relative_to(paths.DOWNLOADS) and Path(adapter.data) not in made:
            raise UserError(
                f"{paths.PARAMS}: adapters.{name}.data names {adapter.data}, but data_sets has only "
                f"{', '.join(params.data_sets) or 'nothing'}, for {paths.DOWNLOADS}/NAME"
            )
        if Path(adapter.data) not in made and not Path(adapter.data).exists():
            raise UserError(
                f"{paths.PARAMS}: adapters.{name}.data names {adapter.data}, which is neither a file nor a folder"
            )
    texts = {"quantize.calibration": params.quantize.calibration.data, "evaluate.general": params.evaluate.general.data}
    for block, path in texts.items():
        if not Path(path).is_file():
            raise UserError(f"{paths.PARAMS}: {block}.data names {path}, which is not a file")
