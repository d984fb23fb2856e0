"""Read params.yaml: its values as they stand, and blocks of it as their types; or say in sentences what is wrong."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from press.core import nested, paths, strict_yaml
from press.core.errors import UserError
from press.params.sentences import Location, sentence

T = TypeVar("T", bound=BaseModel)
# Mistakes that are told at once.
SHOWN = 10


def values(known: Iterable[str], path: Path = paths.PARAMS) -> dict[str, Any]:
    """Return the blocks of a file in YAML, each with its keys sorted.

    :param known: names of blocks that it should have, for the sentence where it has none
    :raises UserError: if it cannot be read as press.core.strict_yaml does, or is no block of keys
    """
    found = strict_yaml.load(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} must be a block of keys: {', '.join(known)}")
    return nested.in_order(found)


def first(block: str) -> str:
    """Return the name in a block of params.yaml, `adapters` or `targets`, that comes first in the file.

    :raises UserError: if there is none
    """
    found = strict_yaml.load(paths.PARAMS)
    members = found.get(block) if isinstance(found, dict) else None
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
            file, key = _place(detail, written) if written else (path, detail["loc"])
            wrong.append(f"{file}: {sentence(detail, model, patterns, key)}")
        # What all adapters have is wrong once.
        wrong = list(dict.fromkeys(wrong))
        more = [f"{path}: and {len(wrong) - SHOWN} more mistakes"] if len(wrong) > SHOWN else []
        raise UserError("\n".join(wrong[:SHOWN] + more)) from error


def _place(detail: ErrorDetails, written: Callable[[Location], tuple[Path, Location]]) -> tuple[Path, Location]:
    """Return the file, and the key in it, of what is wrong; where a key is missing, those where it should be."""
    if detail["type"] != "missing":
        return written(detail["loc"])
    path, above = written(detail["loc"][:-1])
    return path, (*above, detail["loc"][-1])


def chosen(model: type[T], patterns: Mapping[str, str]) -> T:
    """Return those blocks of params.yaml that a model has.

    :raises UserError: with one sentence for each mistake
    """
    found = values(model.model_fields)
    return validated(model, {name: found[name] for name in model.model_fields if name in found}, patterns)
