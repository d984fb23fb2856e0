"""JSON Schemas of answers: whether one stands for itself, and what a value breaks of it, in bounded time.

References are resolved in the schema itself, by a registry that is empty: nothing is read or asked for anywhere else.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, Schema

from press.core import limits
from press.core.errors import UserError
from press.core.redaction import shortened

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCES = ("$ref", "$dynamicRef")
# Keywords whose schemas are asked about the same value, one, several in a list, or several by their names.
ONE, LISTED, NAMED = ("not", "if", "then", "else"), ("allOf", "anyOf", "oneOf"), ("dependentSchemas",)
# Schemas that may be asked about one value, and that may lead to each other on the way.
MOST, DEEPEST = 10_000, 32
# Of what jsonschema says of a value, which quotes it, and an enum or a pattern of the schema, whole.
LONGEST = 300
# Of processor time, for one answer: a thousand times what the schemas of the project take.
SECONDS = 2


# A schema, and what resolves its references; referencing does not name the type of that.
Placed = tuple[Schema, Any]


def check(schema: dict) -> None:
    """Raise ValueError unless a schema is one of the JSON Schema draft 2020-12, and all that it refers to is in it."""
    try:
        _check(schema)
        _Walk().through(schema)
    except (RecursionError, OverflowError) as error:
        raise ValueError("a JSON Schema that is nested too deeply, or has a pattern that is too large") from error


def complaint(value: object, schema: dict) -> str | None:
    """Return what a value breaks of a schema that was checked, or None if it satisfies it.

    :raises UserError: if that cannot be told in bounded time
    """
    errors = Draft202012Validator(schema, registry=Registry()).iter_errors(value)
    try:
        # Compiled code below referencing does not outlive an exception in what it calls.
        with limits.processor_time(SECONDS, "jsonschema", "re"):
            error = next(errors, None)
    except RecursionError:
        return "is nested too deeply for the response schema"
    except OverflowError:
        return "has a number that is too large for the response schema"
    except limits.LateError as late:
        raise UserError(
            f"response_schema takes more than {SECONDS} s for one answer, {str(value)[:60]!r}: give it patterns "
            "without a repetition in a repetition, such as (a+)+, and fewer schemas for one and the same value"
        ) from late
    return error and f"breaks the response schema at {error.json_path}: {shortened(error.message, LONGEST)}"


def _check(schema: Schema) -> None:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"not a JSON Schema at {error.json_path}: {shortened(error.message, LONGEST)}") from error


class _Walk:
    """A walk through all schemas in a schema."""

    def __init__(self) -> None:
        self._sizes: dict[int, tuple[int, int]] = {}
        self._pending: set[int] = set()
        self._waiting: deque[Placed] = deque()

    def through(self, schema: Schema) -> None:
        root = DRAFT202012.create_resource(schema)
        self._waiting.append((schema, Registry().resolver_with_root(root)))
        while self._waiting:
            self._size(*self._waiting.popleft())

    def _size(self, schema: Schema, resolver: Any) -> tuple[int, int]:
        """Return how many schemas a schema asks about the value that it is asked about, and how many in a row."""
        if isinstance(schema, bool):
            return 1, 1
        if id(schema) in self._pending:
            raise ValueError("a JSON Schema that refers to itself, so that no value could ever be checked against it")
        if id(schema) not in self._sizes:
            if schema.get("$schema", DIALECT).rstrip("#") != DIALECT:
                raise ValueError(f"$schema is {schema['$schema']!r}, but must be {DIALECT}, or be left out")
            self._pending.add(id(schema))
            sizes = [self._size(*each) for each in self._of_the_same_value(schema, resolver)]
            steps, depth = 1 + sum(steps for steps, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)
            if steps > MOST or depth > DEEPEST:
                raise ValueError(
                    f"a JSON Schema that asks {steps} schemas about one value, {depth} of them in a row, but may ask "
                    f"{MOST}, {DEEPEST} in a row: let it refer to fewer"
                )
            self._pending.remove(id(schema))
            self._sizes[id(schema)] = steps, depth
            self._waiting += [
                _below(each.contents, resolver) for each in DRAFT202012.create_resource(schema).subresources()
            ]
        return self._sizes[id(schema)]

    def _of_the_same_value(self, schema: Mapping, resolver: Any) -> Iterator[Placed]:
        for keyword in REFERENCES:
            if keyword in schema:
                yield _resolved(schema[keyword], resolver)
        parts = [schema[keyword] for keyword in ONE if keyword in schema]
        parts += [part for keyword in LISTED for part in schema.get(keyword, [])]
        parts += [part for keyword in NAMED for part in schema.get(keyword, {}).values()]
        yield from (_below(part, resolver) for part in parts)


def _below(schema: Schema, resolver: Any) -> Placed:
    return schema, resolver.in_subresource(DRAFT202012.create_resource(schema))


def _resolved(reference: str, resolver: Any) -> Placed:
    try:
        resolved = resolver.lookup(reference)
    # A pointer into a boolean is a TypeError of referencing's, one into a list by a name a ValueError.
    except (Unresolvable, TypeError, ValueError) as error:
        raise ValueError(
            f"a JSON Schema that refers to {reference!r}, which is not in it: nothing is read from elsewhere, so copy "
            "it into $defs"
        ) from error
    try:
        _check(resolved.contents)
    except ValueError as error:
        raise ValueError(f"a JSON Schema that refers to {reference!r}, which is {error}") from error
    return resolved.contents, resolved.resolver
