"""The space of a search: which leaves of params.yaml it sets, and to what."""

import copy
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import JsonValue, ValidationError

from press.core import nested, paths
from press.core.errors import UserError
from press.model import pass_checks
from press.params import checks, schema, sentences, settings

EVERY = "{adapter}"
RANGE = {"low", "high", "log", "step"}
# Significant digits of a number between two others: more say nothing and cannot be read.
DIGITS = 4
# Whole numbers of a range that are all checked, in three seconds.
CHECKED = 1000

Path = tuple[str, ...]


@dataclass(frozen=True)
class Dimension:
    """A key of the space: the leaves of params.yaml that it sets to one and the same value, and the values."""

    key: str
    leaves: tuple[Path, ...]
    distribution: CategoricalDistribution | IntDistribution | FloatDistribution
    choices: tuple = ()

    def value(self, suggested: object) -> object:
        """Return the value for params.yaml that Optuna's suggestion stands for."""
        if isinstance(self.distribution, CategoricalDistribution):
            return next(choice for choice in self.choices if _plain(choice) == suggested)
        if isinstance(self.distribution, IntDistribution):
            return suggested
        rounded = float(f"{suggested:.{DIGITS}g}")
        return min(max(rounded, self.distribution.low), self.distribution.high)

    def suggestion(self, value: JsonValue) -> object | None:
        """Return Optuna's suggestion that stands for a value, None if the value lies outside the space."""
        if isinstance(self.distribution, CategoricalDistribution):
            return _plain(value) if value in self.choices else None
        low, high, step = self.distribution.low, self.distribution.high, self.distribution.step
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            return None
        return value if step is None or math.isclose((value - low) / step, round((value - low) / step)) else None

    def checked(self) -> Sequence:
        """Return the values that are checked before anything runs: all, or the ends of fractions and wide ranges."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.choices
        if isinstance(self.distribution, IntDistribution):
            values = range(self.distribution.low, self.distribution.high + 1, self.distribution.step)
            if len(values) <= CHECKED:
                return values
        return (self.distribution.low, self.distribution.high)


def parse(space: Mapping[str, object], params: dict) -> list[Dimension]:
    """Read the space and check it against params.yaml.

    :param params: all of params.yaml, as press.params.settings.Settings dumps it
    :raises UserError: if a key is none of params.yaml, or a value cannot be one of its key's
    """
    if not space:
        raise UserError(f"{paths.PARAMS}: search.space is empty: name a key such as quantize.group_size")
    dimensions = [_dimension(key, spec, params) for key, spec in sorted(space.items())]
    leaves = [leaf for dimension in dimensions for leaf in dimension.leaves]
    for leaf in leaves:
        if leaves.count(leaf) > 1:
            raise UserError(f"{paths.PARAMS}: search.space has {'.'.join(leaf)} twice, once as {EVERY}: drop one")
    for dimension in dimensions:
        _check_values(dimension, dimensions, params)
    return dimensions


def size(dimensions: Iterable[Dimension]) -> float:
    """Return how many combinations of values there are; infinity if a float lies anywhere between two others."""
    sizes = [_size(dimension) for dimension in dimensions]
    return math.prod(sizes)


def changes(dimensions: Iterable[Dimension], values: Mapping[str, object]) -> dict:
    """Return the blocks of params.yaml that set each dimension's leaves to its value."""
    return _with({}, dimensions, values)


def refusal(dimensions: Iterable[Dimension], values: Mapping[str, object], params: dict) -> str | None:
    """Return the sentence by which params.yaml would be refused with these values, None if it would not."""
    try:
        chosen = settings.Settings.model_validate(_with(copy.deepcopy(params), dimensions, values))
        checks.check_objectives(chosen)
        pass_checks.check(chosen.passes)
    except ValidationError as error:
        return sentences.sentence(error.errors()[0], settings.Settings, schema.PATTERNS)
    except UserError as error:
        return str(error)
    return None


def current(dimensions: Iterable[Dimension], params: dict) -> dict[str, object] | None:
    """Return Optuna's suggestions that stand for what params.yaml has now, None if that lies outside the space."""
    suggestions = {}
    for dimension in dimensions:
        values = [nested.at(params, leaf) for leaf in dimension.leaves]
        suggestion = dimension.suggestion(values[0])
        if suggestion is None or any(value != values[0] for value in values):
            return None
        suggestions[dimension.key] = suggestion
    return suggestions


def _dimension(key: str, spec: object, params: dict) -> Dimension:
    names = params["adapters"] if EVERY in key else [""]
    leaves = tuple(tuple(key.replace(EVERY, name).split(".")) for name in names)
    for leaf in leaves:
        _check_leaf(leaf, params)
    if isinstance(spec, list) and spec:
        if any(choice in spec[:index] for index, choice in enumerate(spec)):
            raise UserError(f"{paths.PARAMS}: search.space.{key} has a value twice")
        distribution = CategoricalDistribution([_plain(choice) for choice in spec])
        return Dimension(key, leaves, distribution, tuple(spec))
    if isinstance(spec, dict):
        return Dimension(key, leaves, _range(key, spec, is_float=isinstance(nested.at(params, leaves[0]), float)))
    raise UserError(
        f"{paths.PARAMS}: search.space.{key} must be a list of values or a block such as "
        "{low: 4, high: 32, log: true}"
    )


def _check_leaf(leaf: Path, params: dict) -> None:
    block = params
    for index, part in enumerate(leaf):
        if not isinstance(block, dict) or part not in block:
            parent, keys = ".".join(leaf[:index]) or "it", ", ".join(block) if isinstance(block, dict) else "a value"
            raise UserError(
                f"{paths.PARAMS}: search.space has {'.'.join(leaf)}, but {parent} has no {part}, only {keys}"
            )
        block = block[part]
    if isinstance(block, dict):
        raise UserError(
            f"{paths.PARAMS}: search.space has {'.'.join(leaf)}, which is a block: name one of {', '.join(block)}"
        )


def _check_values(dimension: Dimension, dimensions: list[Dimension], params: dict) -> None:
    for value in dimension.checked():
        reason = refusal([dimension], {dimension.key: value}, params)
        if reason and not _fits_another(dimension, value, dimensions, params):
            raise UserError(f"{paths.PARAMS}: search.space.{dimension.key}: {reason}")


def _fits_another(dimension: Dimension, value: object, dimensions: list[Dimension], params: dict) -> bool:
    """Tell whether a value that does not go with what params.yaml says now goes with a value of another key."""
    return any(
        refusal([dimension, other], {dimension.key: value, other.key: its}, params) is None
        for other in dimensions
        if other is not dimension
        for its in other.checked()
    )


def _range(key: str, spec: dict, *, is_float: bool) -> IntDistribution | FloatDistribution:
    def refuse(reason: str) -> UserError:
        return UserError(f"{paths.PARAMS}: search.space.{key}: {reason}")

    for name in spec.keys() - RANGE:
        raise refuse(f"{name} is not a known key, only low, high, log and step")
    for name in ("low", "high"):
        bound = spec.get(name)
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise refuse(f"{name} must be a number" + (": write it without quotes" if isinstance(bound, str) else ""))
    low, high, log, step = spec["low"], spec["high"], spec.get("log", False), spec.get("step")
    kind = float if is_float or isinstance(low, float) or isinstance(high, float) else int
    if low > high:
        raise refuse(f"low is {low}, but must be at most high, {high}")
    if not isinstance(log, bool):
        raise refuse("log must be true or false")
    if log and (low <= 0 or step is not None):
        raise refuse("log needs a low above 0 and no step")
    if step is not None and (isinstance(step, bool) or not isinstance(step, int | kind) or step <= 0):
        raise refuse(f"step must be {'a number' if kind is float else 'an integer'} above 0")
    if kind is int:
        step = int(step or 1)
        return IntDistribution(low, low + (high - low) // step * step, log=log, step=step)
    return FloatDistribution(float(low), float(high), log=log, step=step)


def _size(dimension: Dimension) -> float:
    distribution = dimension.distribution
    if isinstance(distribution, CategoricalDistribution):
        return len(dimension.choices)
    if distribution.low == distribution.high:
        return 1
    return (distribution.high - distribution.low) // distribution.step + 1 if distribution.step else math.inf


def _plain(value: JsonValue) -> bool | int | float | str | None:
    """Return a value that Optuna can keep: lists and blocks as JSON."""
    return json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else value


def _with(block: dict, dimensions: Iterable[Dimension], values: Mapping[str, object]) -> dict:
    """Set each dimension's leaves to its value."""
    for dimension in dimensions:
        for leaf in dimension.leaves:
            nested.put(block, leaf, values[dimension.key])
    return block
