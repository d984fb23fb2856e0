"""Generators that have read a prompt, kept for the next one that begins as it does: a conversation's next turn.

Only what was read as a prompt is used again, and not what was written: the runtime computes single tokens by other
kernels than several, so that near-ties would fall otherwise. So each token of a conversation is read once, and an
answer is the same, bit for bit, whether earlier turns were read for it or before it; but for an adapter's on several
threads, among which the runtime parts its products by the length of what is read at once.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from press.serve.decoders import Generator

# Tokens that a generator has room for at least; more of them are a power of two, for the turns to come.
LEAST_ROOM = 256
# A part of a prompt of one token would be computed otherwise than in a longer one.
LEAST_PART = 2


@dataclass
class Held:
    """A generator that one answer uses.

    :param room: tokens that it has memory for
    :param read: those that it has read as a prompt
    """

    generator: Generator
    room: int
    read: list[int] = field(default_factory=list)

    def parts(self, prompt: Sequence[int], size: int) -> Iterator[list[int]]:
        """Yield what is left to be read of a prompt, in parts of a size; one is read when the next is asked for."""
        while (left := len(prompt) - len(self.read)) > 0:
            length = size - LEAST_PART + 1 if left == size + 1 else min(size, left)
            part = list(prompt[len(self.read) : len(self.read) + length])
            yield part
            self.read += part


class Generators:
    """Generators that no answer uses, the one that was used last behind the others.

    :param most: tokens that they may have room for together
    :param longest: tokens that one may have room for
    :param unwanted: whether no answer will use a generator of a key any more
    """

    def __init__(self, most: int, longest: int, unwanted: Callable[[Any], bool]) -> None:
        self._most = most
        self._longest = longest
        self._unwanted = unwanted
        self._lock = threading.Lock()
        self._kept: list[tuple[Hashable, Held]] = []

    @property
    def room(self) -> int:
        """How many tokens those that are kept have room for."""
        with self._lock:
            return sum(held.room for _, held in self._kept)

    @contextmanager
    def using(
        self, key: Hashable, prompt: Sequence[int], length: int, make: Callable[[int], Generator]
    ) -> Iterator[Held]:
        """Give a generator for a prompt, which has read the beginning of it if one has; afterwards it is kept.

        :param key: what generators must have in common, None for one that is not kept
        :param length: tokens of the prompt and its answer
        :param make: returns a new generator with room for so many tokens
        """
        if key is None:
            yield Held(make(length), length)
            return
        held = self._taken(key, prompt, length)
        if held is None:
            room = min(max(LEAST_ROOM, 1 << (length - 1).bit_length()), self._longest)
            held = Held(make(room), room)
        failed = False
        try:
            yield held
        except Exception:
            failed = True
            raise
        finally:
            if not failed:
                self._keep(key, held)

    def forget(self) -> None:
        """Give back the memory of those that are not wanted any more."""
        with self._lock:
            self._drop()

    def _taken(self, key: Hashable, prompt: Sequence[int], length: int) -> Held | None:
        with self._lock:
            candidates = [(_common(held.read, prompt), held) for mine, held in self._kept if mine == key]
            # What shares its beginning alone, such as the system's turn, is another conversation's.
            fitting = [
                (read, held) for read, held in candidates if held.room >= length and 2 * read >= len(held.read) > 0
            ]
            if not fitting:
                return None
            read, held = max(fitting, key=lambda each: each[0])
            self._kept = [each for each in self._kept if each[1] is not held]
        read = min(read, len(prompt) - LEAST_PART)
        if read <= 0:
            return None
        held.generator.rewind_to(read)
        held.read = held.read[:read]
        return held

    def _keep(self, key: Hashable, held: Held) -> None:
        with self._lock:
            self._kept.append((key, held))
            self._drop()

    def _drop(self) -> None:
        self._kept = [(key, held) for key, held in self._kept if not self._unwanted(key)]
        while sum(held.room for _, held in self._kept) > self._most:
            self._kept.pop(0)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many items two sequences have in common at their beginning."""
    length = min(len(one), len(other))
    return next((place for place in range(length) if one[place] != other[place]), length)
