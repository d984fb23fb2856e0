"""Olive's own passes that params.yaml names, as blocks of Olive's configs, and run one by one."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from press.core import cli, files, paths
from press.core.errors import UserError
from press.model import olive_run
from press.params import schema

# What Olive calls its configs of data.
DATA = re.compile(r"(^|_)data_config$")
# With it, weights lie beside the graph, as they do in what capture makes.
BESIDE = "save_as_external_data"


def blocks(place: str, passes: list[schema.OlivePass], data: Mapping[str, Any] | None = None) -> dict[str, dict]:
    """Return Olive's passes block of the passes of a place.

    :param data: Olive's config of the calibration text, for passes that need one
    """
    return {f"{place}_{index}": completed(each, data) for index, each in enumerate(passes)}


def apply(
    place: str,
    given: dict[str, dict],
    model: dict,
    building: Path,
    finish: Callable[[Path, Path], tuple[Path, float | None]],
    accelerator: dict | None = None,
) -> dict:
    """Run the passes of a place one by one, and return Olive's input_model block of the last one's result.

    :param given: their blocks, as `blocks` returns them
    :param model: Olive's input_model block, with a path
    :param finish: makes a model of the folders with the model before a pass and with Olive's result, and returns it and
        its divergence in nats a token; None where that cannot be told here
    :raises UserError: if Olive fails, or `finish` refuses the result
    """
    for index, (name, block) in enumerate(given.items()):
        folder = building / name
        folder.mkdir()
        try:
            result = olive_run.run(model, {name: block}, folder, accelerator)
            path, cost = finish(Path(model["model_path"]), result)
        except (RuntimeError, UserError) as error:
            if cli.is_full_disk(error):
                raise
            raise UserError(f"{paths.PARAMS}: passes.{place}.{index}, {block['type']}: {error}") from error
        said = "what it computes could not be compared" if cost is None else f"{cost:.2g} nats a token from what it was"
        print(f"passes.{place}.{index}, {block['type']}: {said}")
        files.remove(folder / "cache")
        model = {**model, "model_path": str(path)}
    return model


def completed(each: schema.OlivePass, data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a pass's block with what the stage says besides what params.yaml says."""
    fields = schema_of(each.type).model_fields
    given = {name: dict(data) for name in fields if DATA.search(name)} if data else {}
    beside = {BESIDE: True} if BESIDE in fields else {}
    return {"type": each.type, **beside, **(each.model_extra or {}), **given}


@cache
def schema_of(name: str) -> Any:
    from olive.hardware import DEFAULT_CPU_ACCELERATOR

    return pass_class(name).get_config_class(DEFAULT_CPU_ACCELERATOR, disable_search=True)[0]


def pass_class(name: str) -> Any:
    from olive.package_config import OlivePackageConfig

    return OlivePackageConfig.load_default_config().import_pass_module(name)
