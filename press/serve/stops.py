"""The end of an answer at a stop text, while it is written piece by piece."""

from collections.abc import Iterator, Sequence


def before(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """Yield for each piece of an answer what is certain of it, up to the first of its stop texts.

    As `press.model.decoding.cut` cuts a whole answer, the beginnings of stop texts held back. The place of the first
    one is known when no other one that began earlier can still be completed.
    """
    held = ""
    for piece in pieces:
        held += piece
        stop_at = min((place for stop in stops if (place := held.find(stop)) >= 0), default=len(held))
        open_at = min((len(held) - length for length in _beginnings(held, stops)), default=len(held))
        if stop_at < len(held) and stop_at <= open_at:
            yield held[:stop_at]
            return
        certain = min(stop_at, open_at)
        yield held[:certain]
        held = held[certain:]
    places = [place for stop in stops if (place := held.find(stop)) >= 0]
    if end := held[: min(places)] if places else held:
        yield end


def _beginnings(text: str, stops: Sequence[str]) -> Iterator[int]:
    """Yield the lengths of what a text ends with and a stop text begins with, without whole stop texts."""
    for stop in stops:
        for length in range(1, min(len(stop), len(text) + 1)):
            if text.endswith(stop[:length]):
                yield length
