"""Read params.yaml: its values as they stand, and blocks of it as their types; or say in sentences what is wrong."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError

from press.core import nested, paths
from press.core.errors import UserError
from press.params.sentences import sentence

T = TypeVar("T", bound=BaseModel)


def values(known: Iterable[str], path: Path = paths.PARAMS) -> dict[str, Any]:
    """Return the blocks of a file in YAML, each with its keys sorted.

    :param known: names of blocks that it should have, for the sentence where it has none
    :raises UserError: if it is missing, not UTF-8, not YAML, or no block of keys
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run this in the project's folder") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start + 1})") from error
    except yaml.MarkedYAMLError as error:
        mark = cast(yaml.Mark, error.problem_mark)
        where = f"line {mark.line + 1}, column {mark.column + 1}"
        raise UserError(f"{path} is not valid YAML at {where}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} must be a block of keys: {', '.join(known)}")
    return nested.in_order(found)


def validated(model: type[T], found: Mapping, patterns: Mapping[str, str], path: Path = paths.PARAMS) -> T:
    """Return values as a model of their types.

    :param patterns: what each regular expression of the model asks for, in words
    :param path: the file that has the values, for the sentences
    :raises UserError: with one sentence for each mistake
    """
    try:
        return model.model_validate(found)
    except ValidationError as error:
        wrong = [sentence(detail, model, patterns) for detail in error.errors()]
        raise UserError("\n".join(f"{path}: {each}" for each in wrong)) from error


def chosen(model: type[T], patterns: Mapping[str, str]) -> T:
    """Return those blocks of params.yaml that a model has.

    :raises UserError: with one sentence for each mistake
    """
    found = values(model.model_fields)
    return validated(model, {name: found[name] for name in model.model_fields if name in found}, patterns)
