"""Check an answer: against an adapter's response schema and the right answer, and for a loop."""

from press.data import schemas, strict_json

# What counts as a loop: this many rounds, of this many words together, or of as many bytes in UTF-8 as such words have.
# A character of a script without blanks has three bytes, and says as much as half a word.
ROUNDS = 3
WORDS = 12
BYTES = 72


def complaint(answer: str, schema: dict) -> str | None:
    """Return why `answer` is not JSON that satisfies `schema`, or None if it is."""
    try:
        value = strict_json.parse(answer)
    except ValueError as error:
        return str(error)
    return schemas.complaint(value, schema)


def judge(answer: str, reference: str, schema: dict) -> dict[str, bool | float]:
    """Return what an answer under a response schema is worth, beside the right one.

    :param reference: the right answer, JSON
    :return: valid, whether it satisfies the schema; exact, whether it is the same JSON as the reference; fields, the
        share of the names in either's object that both have with the same value
    """
    right = strict_json.parse(reference)
    try:
        given = strict_json.parse(answer)
    except ValueError:
        return {"valid": False, "exact": False, "fields": 0.0}
    exact = strict_json.same(given, right)
    return {"valid": complaint(answer, schema) is None, "exact": exact, "fields": _fields(given, right, exact)}


def loops(answer: str) -> bool:
    """Return whether an answer's end says the same over and over, as a degenerate model does.

    It may have been cut inside a round, a word or even a character, for which U+FFFD then stands. So characters are
    compared: from the end, each with the one that stands a round before it.
    """
    backwards = " ".join(answer.rstrip("\ufffd").split())[::-1]
    for length, same in enumerate(_same_starts(backwards)):
        repeated = backwards[: length + same]
        # The blank behind the last round is not there.
        rounds = length > 0 and len(repeated) + 1 >= ROUNDS * length
        if rounds and (len(repeated.split()) >= WORDS or len(repeated.encode()) >= BYTES):
            return True
    return False


def _fields(value: object, right: object, exact: bool) -> float:
    if not isinstance(right, dict):
        return float(exact)
    if not isinstance(value, dict):
        return 0.0
    names = value.keys() | right.keys()
    equal = [name in value and name in right and strict_json.same(value[name], right[name]) for name in names]
    return sum(equal) / len(equal) if equal else 1.0


def _same_starts(text: str) -> list[int]:
    """Return for each place how many characters from there are those that the text begins with: its Z array."""
    lengths = [0] * len(text)
    start = end = 0
    for place in range(1, len(text)):
        if place < end:
            lengths[place] = min(end - place, lengths[place - start])
        while place + lengths[place] < len(text) and text[lengths[place]] == text[place + lengths[place]]:
            lengths[place] += 1
        if place + lengths[place] > end:
            start, end = place, place + lengths[place]
    return lengths
