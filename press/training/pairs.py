"""Pairs of a chosen and a rejected answer become examples: each side as the renderer of single answers makes it."""

from collections.abc import Callable, Sequence

from press.data import examples
from press.data.examples import Example
from press.data.preferences import SAME, Pair
from press.model import device_tokenizer
from press.training.rendering import Rendered, Renderer, Said

SIDES = Pair._fields


class PairRenderer:
    """What makes examples of pairs, or says what is wrong with one.

    :param inner: makes those of single answers, of which the last alone is learned
    """

    no_room = "and what is left of its answers is the same, or nothing"

    def __init__(self, inner: Renderer) -> None:
        self._inner = inner
        self.question_template = inner.question_template
        self.turn_template = inner.turn_template

    def begin(self, said: Sequence[Pair]) -> Callable[[], Sequence[Rendered | ValueError]]:
        """Begin to make the texts of both sides of each pair; return what waits for them."""
        return self._inner.begin(_sides(said))

    def examples(self, said: Sequence[Pair], texts: Sequence[Rendered | ValueError]) -> list[Example | ValueError]:
        """Tokenize pairs; of one that does not fit, return what is wrong.

        :param texts: of both sides of each, as what `begin` returns says
        :raises UserError: if the template fits no pair
        """
        made = self._inner.examples(_sides(said), texts)
        return [_joined(made[place], made[place + 1]) for place in range(0, len(made), 2)]

    def begin_on_device(
        self, device: device_tokenizer.Device, said: Sequence[Pair]
    ) -> Callable[[], Sequence[str | None]] | None:
        """Let the device render the prompts, which both sides share."""
        return self._inner.begin_on_device(device, [pair.chosen for pair in said])

    def complaint(self, said: Pair) -> str | None:
        """Return what keeps the texts of a pair from being read as they stand, or None."""
        for name, side in zip(SIDES, said, strict=True):
            if wrong := self._inner.complaint(side):
                return f"{name}: {wrong}"
        return None

    def excess(self, example: Example) -> str | None:
        """Return in words by how much a side is too long, or None."""
        for name, side in zip(SIDES, examples.sides(example), strict=True):
            if excess := self._inner.excess(side):
                return f"{name}: {excess}"
        return None

    def has_room(self, example: Example) -> bool:
        """Return whether two different answers are left where those that are too long are cut."""
        chosen, rejected = (
            side["input_ids"] for side in examples.sides(self._cut(example, self.excess(example) or ""))
        )
        return chosen != rejected

    def truncate(self, example: Example, excess: str) -> None:
        """Cut those answers that are too long, which then have no end that they did not get to."""
        example.update(self._cut(example, excess))

    def _cut(self, example: Example, excess: str) -> Example:
        sides = examples.sides(example)
        for side in sides:
            if self._inner.excess(side):
                self._inner.truncate(side, excess)
        return _pair(*sides)


def _sides(said: Sequence[Pair]) -> list[Said]:
    return [side for pair in said for side in pair]


def _joined(chosen: Example | ValueError, rejected: Example | ValueError) -> Example | ValueError:
    for name, side in zip(SIDES, (chosen, rejected), strict=True):
        if isinstance(side, ValueError):
            return ValueError(f"{name}: {side}")
    assert not isinstance(chosen, ValueError)
    assert not isinstance(rejected, ValueError)
    # Such as answers that differ in blanks which the template takes away.
    return ValueError(SAME) if chosen["input_ids"] == rejected["input_ids"] else _pair(chosen, rejected)


def _pair(chosen: Example, rejected: Example) -> Example:
    pair = chosen.copy()
    pair["rejected"], pair["rejected_ids"] = rejected["completion"], rejected["input_ids"]
    return pair
