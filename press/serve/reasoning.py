"""The thoughts of a model that thinks before it answers, parted from the answer while both are written."""

from collections.abc import Iterator

from press.data.chats import THINK, THOUGHT


class Thought(str):
    """A piece of the thoughts before an answer."""

    __slots__ = ()


def parted(pieces: Iterator[str], begun: bool) -> Iterator[str]:
    """Yield for each piece of an answer what is certain of it: Thoughts first, if there are any, then the answer.

    Neither the marks around the thoughts nor the blanks beside the marks are part of them or of the answer.

    :param begun: whether the prompt ends within the thoughts
    """
    if not begun:
        held = ""
        for piece in pieces:
            held += piece
            start = held.lstrip()
            if start.startswith(THINK):
                break
            if not THINK.startswith(start):
                yield held
                yield from pieces
                return
            yield ""
        else:
            yield held
            return
        yield from _thoughts(held.lstrip().removeprefix(THINK), pieces)
    else:
        yield from _thoughts("", pieces)


def _thoughts(held: str, pieces: Iterator[str]) -> Iterator[str]:
    """Yield thoughts up to their end, and the answer behind it.

    :param held: what is there of them
    """
    said = False
    while True:
        thought, ended, behind = held.partition(THOUGHT)
        if ended:
            yield Thought(thought.rstrip() if said else thought.strip())
            yield from _answer(behind, pieces)
            return
        certain = _certain(held)
        yield Thought(certain if said else certain.lstrip())
        said = said or bool(certain.strip())
        held = held[len(certain) :]
        piece = next(pieces, None)
        if piece is None:
            if rest := held.rstrip() if said else held.strip():
                yield Thought(rest)
            return
        held += piece


def _answer(held: str, pieces: Iterator[str]) -> Iterator[str]:
    """Yield an answer from its first character that is no blank.

    :param held: what is there of it
    """
    while not (held := held.lstrip()):
        piece = next(pieces, None)
        if piece is None:
            return
        if not piece.strip():
            yield ""
        held = piece
    yield held
    yield from pieces


def _certain(text: str) -> str:
    """Return a text without what may be the beginning of the mark behind the thoughts, or blanks before it."""
    for length in range(min(len(THOUGHT) - 1, len(text)), 0, -1):
        if text.endswith(THOUGHT[:length]):
            text = text[:-length]
            break
    return text.rstrip()
