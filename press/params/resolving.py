"""params.yaml laid over the defaults: the value of every key that the pipeline reads, and where it was written.

docs/parameters.md has the rules. recorded.py has where `check` writes the values, which DVC and the stages read.
"""

import copy
import functools
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from press.core import nested, paths, strict_yaml
from press.core.errors import UserError
from press.core.strict_yaml import dotted
from press.params import reading
from press.params.schema import PATTERNS, Block, Name
from press.params.sentences import Location, shown, unknown

DEFAULTS = Path(__file__).with_name("defaults.yaml")
# Where that is in the project, for the sentences.
NAMED = Path("press/params/defaults.yaml")
# What each data set, adapter and target has, unless it says otherwise.
EVERY = {"data_sets": "every_data_set", "adapters": "every_adapter", "targets": "every_target"}
SHARED = EVERY["adapters"]
# The blocks of params.yaml that say what is built. All must be there: by their names `check` depends on them in
# dvc.yaml, and DVC knows no block that may be missing.
BUILD = (
    *("seed", "threads", "device", "arithmetic", "base", "data_sets", "quantize", "passes", SHARED, "adapters"),
    *("targets", "evaluate", "gates", "package"),
)
# Those that say nothing about what is built: those who read them check them.
OUTSIDE = {"cluster", "licences", "publish", "search", "signing"}
# Blocks that are one value: laid over another, they take its place, so that none has a part of another one's.
VALUES = frozenset({"config", "fields", "response_schema"})
WHEEL = ("base", "package")
# Stands in a gate for each adapter with a response schema.
WITH_SCHEMA = "{schema_adapter}"


class Sets(Block):
    """Gates by their names, in sets by theirs; null is none."""

    gates: dict[Name, dict[Name, str | None] | None]


class Resolved:
    """What params.yaml amounts to.

    :raises UserError: if it or the defaults cannot be read, or its blocks are not those that there are
    """

    def __init__(self, path: Path = paths.PARAMS) -> None:
        self.path = path
        self._given, self._defaults = reading.values(BUILD, path), _defaults()
        if wrong := [f"{path}: {each}" for each in self._misplaced()]:
            raise UserError("\n".join(wrong))
        values = copy.deepcopy(self._defaults)
        overlay(values, {name: block for name, block in self._given.items() if name not in OUTSIDE})
        for members, every in EVERY.items():
            values[members] = _each(values.pop(every), values[members])
        # Each gate with its key.
        self.gates = self._gates(values)
        values["gates"] = [gate for _, gate in self.gates]
        self.values: dict[str, Any] = nested.in_order(values)

    def written(self, key: Location) -> tuple[Path, Location]:
        """Return the file that says what a value is, and its key there; where none does, those of what is around it."""
        keys = [key, (EVERY[str(key[0])], *key[2:])] if len(key) > 2 and key[0] in EVERY else [key]
        for path, block in ((self.path, self._given), (NAMED, self._defaults)):
            for each in keys:
                if _has(block, each):
                    return path, each
        path, above = self.written(key[:-1]) if key else (self.path, ())
        return path, (*above, *key[-1:])

    def _misplaced(self) -> Iterator[str]:
        """Yield what is wrong about the blocks themselves."""
        for name in self._given:
            if name not in (*BUILD, *OUTSIDE):
                yield unknown((name,), BUILD)
        for name in BUILD:
            if name not in self._given:
                yield f"{name} is missing" + (": write {} if it has nothing to say" if name in self._defaults else "")
        if "data" in self._block(SHARED):
            yield f"{SHARED}.data is not a known key: each of adapters names its own data"
        for name, block in self._given.items():
            if name in BUILD and name != "gates":
                yield from _no_blocks(block, self._defaults.get(name), (name,))
        for members, every in EVERY.items():
            for name, block in self._block(members).items():
                if isinstance(block, dict):
                    yield from _no_blocks(block, self._defaults[every], (members, name))

    def _block(self, name: str) -> dict:
        """Return a block of the file; an empty one where it is missing, or something else."""
        block = self._given.get(name)
        return block if isinstance(block, dict) else {}

    def _gates(self, values: Mapping) -> list[tuple[Location, str]]:
        """Return the gates of all sets: those of the defaults as these have them, then all others by their names."""
        sets = reading.validated(Sets, {"gates": values["gates"]}, PATTERNS, self.path, self.written).gates
        order, located = self._defaults["gates"], []
        for name in _in_order(sets, order):
            gates = sets[name] or {}
            self._check_drops(name, gates)
            located += [(("gates", name, gate), gates[gate]) for gate in _in_order(gates, order.get(name, {}))]
        return [
            (key, each) for key, gate in located if gate is not None for each in _for_schemas(gate, values["adapters"])
        ]

    def _check_drops(self, name: str, gates: Mapping[str, str | None]) -> None:
        """Refuse to drop a gate of a known set that has none of that name, which would leave another one in force."""
        known = self._defaults["gates"].get(name, {})
        for gate, text in gates.items():
            if known and text is None and gate not in known:
                raise UserError(
                    f"{self.path}: gates.{name}.{gate} is null, which drops it, but there is only {', '.join(known)}"
                )


def overlay(values: MutableMapping, changes: Mapping) -> MutableMapping:
    """Lay changes over values, in place: blocks are merged, all else and what is one value is replaced."""
    return nested.overlay(values, changes, lambda key: key[-1] in VALUES or key == WHEEL)


@functools.cache
def _defaults() -> dict[str, Any]:
    return strict_yaml.parse(DEFAULTS.read_text(encoding="utf-8"), NAMED)


def _no_blocks(given: object, default: object, key: Location) -> Iterator[str]:
    """Yield what is no block where the defaults have one: laid over it, it would take the place of all its keys."""
    if not isinstance(default, dict):
        return
    if not isinstance(given, dict):
        yield f"{dotted(key)} is {shown(given)}, but must be a block of keys"
    elif key[-1] not in VALUES:
        for name, value in given.items():
            yield from _no_blocks(value, default.get(name), (*key, name))


def _each(shared: dict, members: object) -> object:
    """Lay each data set, adapter or target over what all of them have."""
    if not isinstance(members, dict):
        return members
    return {
        name: overlay(copy.deepcopy(shared), block) if isinstance(block, dict) else block
        for name, block in members.items()
    }


def _in_order(named: Mapping[str, object], first: Mapping[str, object]) -> list[str]:
    """Return names: first those that another mapping has, as it has them, then the rest in alphabetical order."""
    return [name for name in first if name in named] + sorted(named.keys() - first.keys())


def _for_schemas(gate: str, adapters: object) -> list[str]:
    """Return a gate, or one for each adapter with a response schema, if it says so."""
    if WITH_SCHEMA not in gate or not isinstance(adapters, dict):
        return [gate]
    schemas = {name: block.get("response_schema") for name, block in adapters.items() if isinstance(block, dict)}
    return [gate.replace(WITH_SCHEMA, str(name)) for name in sorted(schemas, key=str) if schemas[name] is not None]


def _has(block: object, key: Location) -> bool:
    try:
        nested.at(block, key)
    except (KeyError, IndexError, TypeError):
        return False
    return True
