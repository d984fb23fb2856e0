"""Lay a preset over params.yaml, as `dvc exp run --set-param` would, comments kept.

    python -m press.params.preset NAME     params.yaml := the committed params.yaml with presets/NAME.yaml over it
    python -m press.params.preset --anyway NAME     even if this machine lacks what the model needs

A preset holds only what differs. It is laid over the committed file, not over another preset; changes of your
own that are not committed are never overwritten. `git restore params.yaml` goes back.
"""

import io
import sys
from pathlib import Path

from ruamel.yaml import YAML

from press.core import cli, files, paths, shell, strict_yaml
from press.core.errors import UserError
from press.params import checks, needs, resolving, settings

PRESETS = Path("presets")
# What the last preset made of params.yaml; DVC keeps its temporary files out of git.
LAID = Path(".dvc/tmp/preset.yaml")
ANYWAY = "--anyway"


def apply(name: str) -> str:
    """Return the text of params.yaml with a preset.

    :raises UserError: if there is no such preset, or params.yaml has changes that would be lost
    """
    presets = {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}
    if name not in presets:
        raise UserError(f"there is no preset {name!r} in {PRESETS}, only {', '.join(presets)}")
    committed = _committed(paths.PARAMS)
    current = paths.PARAMS.read_text(encoding="utf-8")
    if current != committed and (not LAID.exists() or LAID.read_text(encoding="utf-8") != current):
        raise UserError(
            f"{paths.PARAMS} has changes that are not committed: commit them, or take them back with "
            f"`git restore {paths.PARAMS}`, before you lay a preset over"
        )
    changes = _read(presets[name])
    _check_removals(presets[name], changes, committed)
    return edited(committed, changes)


def write(text: str) -> None:
    """Validate and write params.yaml, and remember the text, so that another preset may take its place."""
    building = files.fresh(paths.PARAMS)
    building.write_text(text, encoding="utf-8")
    try:
        resolved = resolving.Resolved(building)
        checks.check(settings.validated(resolved), resolved)
    except UserError as error:
        building.unlink()
        said = str(error).replace(str(building), str(paths.PARAMS))
        raise UserError(said.replace(f"{paths.PARAMS}: ", f"{paths.PARAMS} with the preset: ")) from error
    LAID.parent.mkdir(parents=True, exist_ok=True)
    LAID.write_text(text, encoding="utf-8")
    files.put(building, paths.PARAMS)


def edited(text: str, changes: dict) -> str:
    """Return the text of params.yaml with changes laid over, comments kept; null removes an adapter or a target.

    :raises UserError: if it cannot be read as press.core.strict_yaml does
    """
    strict_yaml.parse(text, paths.PARAMS)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    values = resolving.overlay(yaml.load(text), changes)
    for members in resolving.EVERY:
        for name in _removed(changes, members):
            del values[members][name]
    buffer = io.StringIO()
    yaml.dump(values, buffer)
    return buffer.getvalue()


def _check_removals(path: Path, changes: dict, text: str) -> None:
    """Refuse a preset that removes what is not there, or all that is there.

    :param text: of params.yaml
    """
    before = strict_yaml.parse(text, paths.PARAMS)
    for members in resolving.EVERY:
        removed, there = _removed(changes, members), _block(before, members)
        for name in removed - there.keys():
            raise UserError(f"{path}: {members}.{name} is null, which removes it, but there is only {', '.join(there)}")
        if removed and removed == there.keys() | changes[members].keys():
            raise UserError(f"{path}: {members} would be empty, but must have at least one entry")


def _removed(changes: dict, members: str) -> set[str]:
    return {name for name, block in _block(changes, members).items() if block is None}


def _block(values: object, name: str) -> dict:
    """Return a block of values; an empty one where there is none, which is refused when all is read."""
    block = values.get(name) if isinstance(values, dict) else None
    return block if isinstance(block, dict) else {}


def _read(path: Path) -> dict:
    # Read again for the comments and the style, which are laid over with the values.
    preset = {} if strict_yaml.load(path) is None else YAML().load(path)
    if not isinstance(preset, dict):
        raise UserError(f"{path} must be a block of keys, those of {paths.PARAMS} that it changes")
    return preset


def _committed(path: Path) -> str:
    ended = shell.run("git", "show", f"HEAD:./{path}")
    if ended.failed:
        raise UserError(f"{path} is not committed in git, so that a preset could not be taken back: commit it")
    return ended.output


def lay(name: str, anyway: bool = False) -> None:
    """Lay a preset over params.yaml, once it is said what its model needs and what is here.

    One that is laid already is not refused: what is built of it takes of the free disk.

    :param anyway: even if it cannot be built here
    :raises UserError: as `apply` and `write` do, or if it cannot be built here
    """
    text = apply(name)
    is_laid = text == paths.PARAMS.read_text(encoding="utf-8")
    needs.check(name, strict_yaml.parse(text, paths.PARAMS).get("device"), anyway or is_laid)
    write(text)


if __name__ == "__main__":
    words = sys.argv[1:]
    forced = words[:1] == [ANYWAY]
    cli.in_sentences(lambda: lay(" ".join(words[forced:]), forced))
