"""params.yaml with changes, and what `press.params.settings` says about it."""

import copy
from pathlib import Path

import pytest
import yaml

from press.core.errors import UserError
from press.params import settings

ROOT = Path(__file__).parents[1]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
TRAVEL = PARAMS["adapters"]["travel"]
KEYS = "seed, threads, device, base, quantize, adapters, targets, evaluate, gates, package"
DELETED = object()
JARGON = (
    "Input should",
    "input should",
    "type=",
    "instance of",
    "pydantic",
    "Traceback",
    "Value error",
    "[key]",
    "validat",
)


def changed(folder: Path, changes: dict) -> Path:
    """Write params.yaml with changes; a change's key is a path of keys."""
    values = copy.deepcopy(PARAMS)
    for keys, value in changes.items():
        block = values
        for key in keys[:-1]:
            block = block[key]
        if value is DELETED:
            del block[keys[-1]]
        else:
            block[keys[-1]] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def complaint(path: Path) -> str:
    """Return what `load` says about a file, as a sentence without the path."""
    with pytest.raises(UserError) as caught:
        settings.load(path)
    message = str(caught.value)
    assert not [word for word in JARGON if word in message]
    assert message.startswith(f"{path}")
    return message.removeprefix(f"{path}").removeprefix(": ").strip()


def base(source: str, **block: str) -> dict:
    return {("base", "source"): source, **{("base", source, key): value for key, value in block.items()}}
