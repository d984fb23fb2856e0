"""The machines that built and measured a package, which its files must not depend on."""

from collections.abc import Iterable

from press.core import machine, paths
from press.core.errors import UserError


def recorded(target: str, adapters: Iterable[str]) -> dict[str, dict]:
    """Map each stage that a target's package and figures came from, such as finetune@travel, to its class of machine.

    :raises UserError: if a record is missing or damaged
    """
    of_adapters = [f"finetune/{name}" for name in adapters]
    names = ["fetch", "quantize", *of_adapters, f"capture/{target}", f"evaluate/{target}"]
    return {name.replace("/", "@"): _read(name) for name in names}


def measured_on(target: str) -> dict:
    """Return the class of the machine that a target's figures were measured on.

    :raises UserError: if the record is missing or damaged
    """
    return _read(f"evaluate/{target}")


def _read(name: str) -> dict:
    try:
        return machine.recorded(name)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{paths.MACHINES / name}.json is missing or damaged: run `dvc repro`") from error
