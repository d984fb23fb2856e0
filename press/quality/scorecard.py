"""What a model's own answer is worth beside the right one: as text, as JSON of a response schema, field by field."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from referencing import Registry
from referencing.jsonschema import DRAFT202012, Schema

from press.data import answers, strict_json

# Types with few enough values that an answer can be expected to have the right one; a string needs an enum for that.
SCALARS = {"integer", "number", "boolean", "null"}
# What a part of a metric's name may be, so that gates can name it.
NAME = re.compile(r"[A-Za-z0-9][\w-]*")
MISSING = object()


def judge(answer: str, reference: str, schema: dict | None) -> dict[str, bool | float]:
    """Return what an answer is worth: under a response schema as answers.judge has it, otherwise its chrF."""
    if schema is None:
        return {"chrf": chrf(answer, reference)}
    return answers.judge(answer, reference, schema)


def chrf(answer: str, reference: str) -> float:
    """Return the F-score of an answer's runs of one to six characters, from 0 to 1 (https://aclanthology.org/W15-3049)."""
    return _metric().sentence_score(answer, [reference]).score / 100


def fields(answer: str, reference: str, schema: dict) -> dict[str, bool]:
    """Return for each scalar field whether an answer has the right value; that of an answer that is not valid is wrong.

    A field that neither has is left out: to leave away what hardly any answer has would be right nearly always.

    :param reference: the right answer, JSON
    """
    right = strict_json.parse(reference)
    given = strict_json.parse(answer) if answers.complaint(answer, schema) is None else None
    flags = {}
    for path in scalar_paths(schema):
        wanted, own = _at(right, path), _at(given, path)
        if wanted is not MISSING or own is not MISSING:
            both = wanted is not MISSING and own is not MISSING
            flags[".".join(path)] = both and strict_json.same(own, wanted)
    return flags


def scalar_paths(schema: dict) -> list[tuple[str, ...]]:
    """Return the fields of objects in objects to which a response schema gives a name and a scalar type.

    A field is left out if it, or one that it is in, has a name that no gate could have.
    """
    return list(_paths(schema, Registry().resolver_with_root(DRAFT202012.create_resource(schema)), (), ()))


def _paths(schema: Schema, resolver: Any, path: tuple[str, ...], above: tuple[int, ...]) -> Iterator[tuple[str, ...]]:
    schema, resolver = _followed(schema, resolver)
    # A schema that is in itself goes on as deep as an answer.
    if not isinstance(schema, Mapping) or id(schema) in above:
        return
    for name, inner in schema.get("properties", {}).items():
        if not NAME.fullmatch(name):
            continue
        if _is_scalar(inner, resolver):
            yield (*path, name)
        else:
            yield from _paths(inner, resolver, (*path, name), (*above, id(schema)))


def _is_scalar(schema: Schema, resolver: Any) -> bool:
    schema, resolver = _followed(schema, resolver)
    if not isinstance(schema, Mapping):
        return False
    if "enum" in schema:
        return not any(isinstance(value, dict | list) for value in schema["enum"])
    if "type" in schema:
        types = schema["type"]
        return {types} <= SCALARS if isinstance(types, str) else set(types) <= SCALARS
    choices = schema.get("anyOf", schema.get("oneOf", []))
    return bool(choices) and all(_is_scalar(choice, resolver) for choice in choices)


def _followed(schema: Schema, resolver: Any) -> tuple[Schema, Any]:
    """Return the schema that a chain of references leads to: schemas.check has let no circle pass."""
    while isinstance(schema, Mapping) and "$ref" in schema:
        resolved = resolver.lookup(schema["$ref"])
        schema, resolver = resolved.contents, resolved.resolver
    return schema, resolver


def _at(value: object, path: tuple[str, ...]) -> object:
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return MISSING
        value = value[name]
    return value


@cache
def _metric() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()
