"""Check an answer: against an adapter's response schema, and for a loop."""

import json

from press.data import schemas

# What counts as a loop: this many rounds, of this many words together.
ROUNDS = 3
WORDS = 12


def complaint(answer: str, schema: dict) -> str | None:
    """Return why `answer` is not JSON that satisfies `schema`, or None if it is."""
    try:
        value = json.loads(answer)
    except ValueError as error:
        return f"not JSON ({error})"
    return schemas.complaint(value, schema)


def valid(answer: str, schema: dict) -> bool:
    """Return whether an answer is JSON that satisfies a schema."""
    return complaint(answer, schema) is None


def loops(answer: str) -> bool:
    """Return whether an answer's end says the same words over and over, as a degenerate model does."""
    words = answer.split()
    for length in range(1, len(words) // ROUNDS + 1):
        rounds = max(ROUNDS, -(-WORDS // length))
        if words[-rounds * length :] == words[-length:] * rounds:
            return True
    return False
