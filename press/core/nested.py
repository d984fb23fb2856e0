"""Dictionaries of dictionaries, such as params.yaml and metrics.json, and the dotted names of their leaves."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any


def flat(values: Mapping, prefix: str = "") -> dict[str, Any]:
    """Map the dotted name of each leaf to its value; an empty block is a leaf."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def in_order(values: Mapping) -> dict[str, Any]:
    """Sort the keys of all blocks: their order means nothing to DVC, so that no output may depend on it."""
    return {key: _in_order(values[key]) for key in sorted(values, key=str)}


def at(values: Any, path: Sequence[str | int]) -> Any:
    """Return what is at a path of keys."""
    node: Any = values
    for key in path:
        node = node[key]
    return node


def put(values: MutableMapping, path: Sequence[str], value: object) -> None:
    """Put a value at a path of keys, and make the blocks on the way that are not there."""
    for key in path[:-1]:
        values = values.setdefault(key, {})
    values[path[-1]] = value


def overlay(
    values: MutableMapping,
    changes: Mapping,
    is_whole: Callable[[tuple[str, ...]], bool] = lambda _: False,
    above: tuple[str, ...] = (),
) -> MutableMapping:
    """Lay changes over values, in place: blocks are merged, all else is replaced.

    :param is_whole: tells by a path of keys whether the block there is replaced, too
    :param above: the path of keys at which the values are
    """
    for key, value in changes.items():
        path = (*above, key)
        if isinstance(value, Mapping) and isinstance(values.get(key), MutableMapping) and not is_whole(path):
            overlay(values[key], value, is_whole, path)
        else:
            values[key] = value
    return values


def _in_order(value: object) -> object:
    if isinstance(value, Mapping):
        return in_order(value)
    return [_in_order(each) for each in value] if isinstance(value, list) else value
