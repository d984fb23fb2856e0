"""The parameters as `check` writes them down: in reports/params.json, and those of each adapter in a file of its own.

DVC finds a parameter by a walk through all of its file, once for each stage that names it. With one file for all
adapters, that would take a time that grows with the square of their number.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from press.core import files, paths
from press.core.errors import UserError

ADAPTERS = "adapters"


def write(values: Mapping[str, Any], project: Path = Path()) -> None:
    """Write all values, and leave nothing of adapters that are no more."""
    with files.replaced(project / paths.RESOLVED_ADAPTERS) as building:
        for name, block in values[ADAPTERS].items():
            files.write_json(building / file_of(name).name, block)
    files.write_json(project / paths.RESOLVED, _rest(values))


def read() -> dict[str, Any]:
    """Return all values."""
    each = {path.stem: files.read_json(path) for path in sorted(paths.RESOLVED_ADAPTERS.iterdir())}
    return {**files.read_json(paths.RESOLVED), ADAPTERS: each}


def differing(values: Mapping[str, Any]) -> Path | None:
    """Return a file that says something else than these values, is missing or is one too many, if there is one.

    :raises UserError: if one cannot be read
    """
    folder = paths.RESOLVED_ADAPTERS
    contents = {paths.RESOLVED: _rest(values), **{file_of(name): block for name, block in values[ADAPTERS].items()}}
    others = (path for path in (folder.iterdir() if folder.is_dir() else ()) if path not in contents)
    wrong = (path for path, content in contents.items() if _bytes(path) != files.json_text(content).encode())
    return next(wrong, next(others, None))


def file_of(adapter: str) -> Path:
    """Return the file with an adapter's parameters."""
    return paths.RESOLVED_ADAPTERS / f"{adapter}.json"


def prefix(path: Path) -> str:
    """Return what stands before a file's keys where all are in one: `adapters.travel.`, and nothing of other files."""
    return f"{ADAPTERS}.{path.stem}." if path.parent == paths.RESOLVED_ADAPTERS else ""


def _rest(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: block for name, block in values.items() if name != ADAPTERS}


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): `dvc repro check` writes it anew") from error
