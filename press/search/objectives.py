"""What a search is after, in the language of the gates, and which trials serve it best."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from press.core.errors import UserError
from press.params import gates

T = TypeVar("T")
Direction = Literal["minimize", "maximize"]
DIRECTIONS: tuple[Direction, ...] = ("minimize", "maximize")


@dataclass(frozen=True)
class Objective:
    """An expression of metrics to be made small or large."""

    direction: Direction
    expression: str

    @classmethod
    def parse(cls, text: str) -> "Objective":
        """Read `minimize EXPRESSION` or `maximize EXPRESSION`.

        :raises UserError: if it is neither, or has a figure for each adapter
        """
        direction, _, expression = text.strip().partition(" ")
        if direction not in DIRECTIONS:
            raise UserError(f"{text!r} must begin with minimize or maximize, as in `minimize package.bytes`")
        if gates.EVERY in expression:
            raise UserError(
                f"{text!r} must be one figure, but {gates.EVERY} stands for each adapter: name one, or add up several"
            )
        try:
            gates.check(f"{expression} <= 0")
        except UserError as error:
            raise UserError(f"{text!r} must be {direction} and an expression such as `package.bytes`") from error
        return cls(direction, expression.strip())

    def __str__(self) -> str:
        return f"{self.direction} {self.expression}"

    def value(self, metrics: Mapping) -> float:
        """Return the expression's value.

        :raises UserError: if it names a metric that is not there
        """
        return float(gates.value(self.expression, metrics))

    def cost(self, value: float) -> float:
        """Return a value such that less is better."""
        return value if self.direction == "minimize" else -value


def violations(constraints: Iterable[str], metrics: Mapping, adapters: Sequence[str]) -> dict[str, float]:
    """Map each constraint (one for each adapter if it says so) to by how much it is missed, 0 or less if satisfied.

    :return: shares of the constraint's larger side; 1 where it divides by zero
    :raises UserError: if one names a metric that is not there
    """
    return {each.gate: _violation(each, metrics) for each in gates.judge(constraints, metrics, adapters)}


def _violation(result: gates.Result, metrics: Mapping) -> float:
    try:
        excess = gates.excess(result.gate, metrics)
    except ZeroDivisionError:
        return 1.0
    # What compares by < is missed by nothing when both sides are equal.
    return min(excess, 0.0) if result.passed else max(excess, 1e-9)


def front(costs: Sequence[Sequence[float]]) -> list[int]:
    """Return the Pareto front: the indices of points that no other point beats, of equal points the first.

    A point beats another if it costs no more in any respect and less in one.
    """

    def beats(index: int, other: int) -> bool:
        one, two = costs[index], costs[other]
        no_worse = all(mine <= its for mine, its in zip(one, two, strict=True))
        return no_worse and (list(one) != list(two) or index < other)

    indices = range(len(costs))
    return [each for each in indices if not any(beats(other, each) for other in indices if other != each)]


def best(trials: Iterable[T], costs: Callable[[T], Sequence[float]]) -> T | None:
    """Return the trial of least cost in the first respect, of equals in the next; of equal trials the first."""
    return min(trials, key=lambda trial: tuple(costs(trial)), default=None)
