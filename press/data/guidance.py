"""A response schema in the form that the decoder is held to, written as the answers of a data set are written.

The grammar that llguidance makes of a schema has the names of an object in the schema's order, and takes blanks without
an end between two tokens. So names come in the data's order, and blanks as in the data, where all of it agrees.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

# The keyword of llguidance in a schema that says how JSON is written.
OPTIONS = "x-guidance"
# How JSON may be written so that a grammar can say it: with a blank after each separator, and with none.
SEPARATORS = ((", ", ": "), (",", ":"))
STRING = re.compile(r'"(?:\\.|[^"\\])*"')
# Answers that are looked at.
LOOKED_AT = 1000


def adapted(schema: dict, answers: Sequence[str]) -> dict:
    """Return a schema that says the same, written as answers are that satisfy it.

    :param answers: JSON texts
    """
    looked_at = answers[:LOOKED_AT]
    ordered = _ordered(schema, [each for answer in looked_at for each in _objects(_value(answer))])
    structures = [STRING.sub('""', answer) for answer in looked_at]
    for between, after_name in SEPARATORS:
        if all(each == _written(each, between, after_name) for each in structures):
            options = {"whitespace_flexible": False, "item_separator": between, "key_separator": after_name}
            return {OPTIONS: options, **ordered}
    return ordered


def _value(answer: str) -> object:
    """Return an answer's value, None where it was cut to the length of an example."""
    try:
        return json.loads(answer)
    except ValueError:
        return None


def _written(structure: str, between: str, after_name: str) -> str:
    return "".join(structure.split()).replace(",", between).replace(":", after_name)


def _ordered(schema: Any, objects: Sequence[dict]) -> Any:
    """Return a schema whose lists of properties have the order of that object which has most of them."""
    if isinstance(schema, list):
        return [_ordered(each, objects) for each in schema]
    if not isinstance(schema, dict):
        return schema
    ordered = {key: _ordered(value, objects) for key, value in schema.items()}
    properties = ordered.get("properties")
    if isinstance(properties, dict):
        like = max(objects, key=lambda each: len(each.keys() & properties.keys()), default={})
        names = [name for name in like if name in properties]
        ordered["properties"] = {name: properties[name] for name in dict.fromkeys([*names, *properties])}
    return ordered


def _objects(value: object) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from _objects(child)
