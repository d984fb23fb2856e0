"""Check an answer against an adapter's response schema."""

import json

from jsonschema import Draft202012Validator


def complaint(answer: str, schema: dict) -> str | None:
    """Return why `answer` is not JSON that satisfies `schema`, or None if it is."""
    try:
        value = json.loads(answer)
    except ValueError as error:
        return f"not JSON ({error})"
    error = next(iter(Draft202012Validator(schema).iter_errors(value)), None)
    return error and f"breaks the response schema at {error.json_path}: {error.message}"
