"""Read params.yaml: its values as they stand, and blocks of it as their types; or say in sentences what is wrong."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from press.core import nested, paths, strict_yaml
from press.core.errors import UserError
from press.params.sentences import Location, sentence

T = TypeVar("T", bound=BaseModel)
JSON_KINDS = {"list", "dict", "str", "bool", "int", "float"}
# Mistakes that are told at once.
SHOWN = 10


def values(known: Iterable[str], path: Path = paths.PARAMS) -> dict[str, Any]:
    """Return the blocks of a file in YAML, each with its keys sorted.

    :param known: names of blocks that it should have, for the sentence where it has none
    :raises UserError: if it cannot be read as press.core.strict_yaml does, or is no block of keys
    """
    blocks = strict_yaml.load(path)
    if not isinstance(blocks, dict):
        raise UserError(f"{path} must be a block of keys: {', '.join(known)}")
    return nested.in_order(blocks)


def first(block: str) -> str:
    """Return the name in a block of params.yaml, `adapters` or `targets`, that comes first in the file.

    :raises UserError: if there is none
    """
    blocks = strict_yaml.load(paths.PARAMS)
    members = blocks.get(block) if isinstance(blocks, dict) else None
    if not isinstance(members, dict) or not members:
        raise UserError(f"{paths.PARAMS}: {block} names nothing")
    return str(next(iter(members)))


def validated(
    model: type[T],
    found: Mapping,
    patterns: Mapping[str, str],
    path: Path = paths.PARAMS,
    written: Callable[[Location], tuple[Path, Location]] | None = None,
) -> T:
    """Return values as a model of their types.

    :param patterns: what each regular expression of the model asks for, in words
    :param path: the file that has the values, for the sentences
    :param written: tells which file has the value of a key, under which key, where the values come from several
    :raises UserError: with one sentence for each mistake, the first ten of them
    """
    try:
        return model.model_validate(found)
    except ValidationError as error:
        wrong = []
        for detail in error.errors():
            # A key that is missing has no default, so that it belongs into the file.
            place = _place(detail["loc"], found)
            file, key = written(place) if written and detail["type"] != "missing" else (path, place)
            wrong.append(f"{file}: {sentence(detail, model, patterns, key)}")
        # What all adapters have is wrong once.
        wrong = list(dict.fromkeys(wrong))
        more = [f"{path}: and {len(wrong) - SHOWN} more mistakes"] if len(wrong) > SHOWN else []
        raise UserError("\n".join(wrong[:SHOWN] + more)) from error


def _place(loc: Location, value: object) -> Location:
    """Return a location without what pydantic puts behind the key of a JSON value: the kind that it was tried as."""
    place: Location = ()
    for part in loc:
        if part in JSON_KINDS and not (isinstance(value, Mapping) and part in value):
            continue
        place += (part,)
        try:
            value = nested.at(value, (part,))
        except (KeyError, IndexError, TypeError):
            value = None
    return place


def chosen(model: type[T], patterns: Mapping[str, str]) -> T:
    """Return those blocks of params.yaml that a model has.

    :raises UserError: with one sentence for each mistake
    """
    blocks = values(model.model_fields)
    return validated(model, {name: blocks[name] for name in model.model_fields if name in blocks}, patterns)
