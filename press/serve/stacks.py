"""The adapters of a batch whose rows have different ones."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime as ort

from press.serve.row_graph import LORA_A, LORA_B, PLACES, SCALE, SLOTS, WANTED, Projection

Inputs = dict[str, ort.OrtValue]


class Weights:
    """An adapter's values for the inputs of a graph.

    :raises RuntimeError: if they are not the graph's
    """

    def __init__(self, values: Mapping[str, np.ndarray], projections: Sequence[Projection]) -> None:
        self._values = values
        self._projections = projections
        # What stands for it where its memory must not be held.
        self.key = object()
        self.ranks = {each.name: self.side(each, LORA_A).shape[1] for each in projections}
        _check(self, values, projections)

    def side(self, projection: Projection, side: str) -> np.ndarray:
        """Return A or B, without columns and rows where the adapter changes nothing."""
        empty = (projection.width_in, 0) if side == LORA_A else (0, projection.width_out)
        value = self._values.get(projection.name + side)
        return np.zeros(empty, projection.dtype) if value is None else value

    @cached_property
    def sides(self) -> Inputs:
        """A and B as the graph has them where there is no other adapter."""
        return {
            each.name + side: _input(each.name + side, self.side(each, side)[None])
            for each in self._projections
            for side in (LORA_A, LORA_B)
        }

    def scale(self, projection: Projection) -> np.ndarray:
        """Return what the columns of a projection are multiplied by."""
        return self._values.get(projection.name + SCALE, np.ones(1, projection.dtype))


def _check(weights: Weights, values: Mapping[str, np.ndarray], projections: Sequence[Projection]) -> None:
    sides = {each.name + side for each in projections for side in (LORA_A, LORA_B)}
    scales = {each.name + SCALE for each in projections if each.scaled}
    if unknown := values.keys() - sides - scales:
        raise RuntimeError(f"the model has no input {min(unknown)}")
    for each in projections:
        rank = weights.ranks[each.name]
        shapes: dict[str, list[tuple[int, ...]]] = {LORA_A: [(each.width_in, rank)], LORA_B: [(rank, each.width_out)]}
        shapes[SCALE] = [(1,), (each.width_out,)]
        for side, allowed in shapes.items():
            value = weights.scale(each) if side == SCALE else weights.side(each, side)
            if value.shape not in allowed or value.dtype != each.dtype:
                raise RuntimeError(f"{each.name}{side} is not of the model's shape and type")


def read(path: Path, projections: Sequence[Projection]) -> Weights:
    """Read an adapter's file.

    :raises RuntimeError: if the runtime cannot, or it is not for the graph
    """
    parameters = ort.AdapterFormat.read_adapter(str(path)).get_parameters()
    # Copied, since a file that is mapped could be written to.
    return Weights({name: value.numpy().copy() for name, value in parameters.items()}, projections)


class Stack:
    """Memory for the adapters of several rows, one behind the other; where there is one, it is the adapter's own.

    A row's products are computed by themselves, as those of a single row are, and those of rows with the same adapter
    one after the other, so that it is read once. So an adapter's answer is the same beside others, which is not so if
    their A stand side by side in one product with a mask for each row.
    """

    def __init__(self, projections: Sequence[Projection]) -> None:
        self._projections = projections
        # In place of an adapter, where no row has one.
        self._nothing = Weights({}, projections)
        self._arrays: dict[str, np.ndarray] = {}
        self._ranks: dict[str, int] = {}
        # Of the adapters that are there, None where there is none.
        self._keys: list[object | None] = []
        # What the graph is given of so many of them.
        self._inputs: dict[int, Inputs] = {}

    def inputs(self, rows: Sequence[Weights | None]) -> Inputs:
        """Return the adapters of rows as inputs of the graph."""
        if not self._projections:
            return {}
        own = list(dict.fromkeys(weights for weights in rows if weights)) or [self._nothing]
        adapters = own if len(own) == 1 else self._arranged(own)
        sides = own[0].sides if len(own) == 1 else self._sides(len(own))
        scales = {each.name + SCALE: value_of(self._scales(each, rows)) for each in self._projections if each.scaled}
        return {**sides, **scales, **_slots(rows, adapters, self._projections[0].dtype)}

    def clear(self) -> None:
        """Give the memory back."""
        self._arrays, self._ranks, self._keys, self._inputs = {}, {}, [], {}

    def _arranged(self, adapters: Sequence[Weights]) -> list[Weights]:
        """Return adapters in the order in which they are in memory, those that were there at their places."""
        self._fit(adapters)
        here = {key: place for place, key in enumerate(self._keys[: len(adapters)]) if key is not None}
        order = {here[each.key]: each for each in adapters if each.key in here}
        new = iter([each for each in adapters if each.key not in here])
        for place in range(len(adapters)):
            if place not in order:
                order[place] = next(new)
                self._write(place, order[place])
        return [order[place] for place in range(len(adapters))]

    def _fit(self, adapters: Sequence[Weights]) -> None:
        """Have memory for adapters, in powers of two; that of lower ranks is filled with zeros."""
        ranks = {
            each.name: max([self._ranks.get(each.name, 0), *(one.ranks[each.name] for one in adapters)])
            for each in self._projections
        }
        if ranks == self._ranks and len(adapters) <= len(self._keys):
            return
        count = max(len(self._keys), 1 << (len(adapters) - 1).bit_length())
        self._ranks, self._inputs = ranks, {}
        self._keys = [None] * count
        for each in self._projections:
            rank = ranks[each.name]
            self._arrays[each.name + LORA_A] = np.zeros((count, each.width_in, rank), each.dtype)
            self._arrays[each.name + LORA_B] = np.zeros((count, rank, each.width_out), each.dtype)

    def _write(self, place: int, weights: Weights) -> None:
        for each in self._projections:
            down, up = (self._arrays[each.name + side][place] for side in (LORA_A, LORA_B))
            rank = weights.ranks[each.name]
            down[:, :rank], up[:rank] = weights.side(each, LORA_A), weights.side(each, LORA_B)
            down[:, rank:] = up[rank:] = 0
        self._keys[place] = weights.key

    def _sides(self, count: int) -> Inputs:
        if count not in self._inputs:
            self._inputs[count] = {name: _input(name, array[:count]) for name, array in self._arrays.items()}
        return self._inputs[count]

    @staticmethod
    def _scales(projection: Projection, rows: Sequence[Weights | None]) -> np.ndarray:
        """Return what the columns of each row are multiplied by."""
        scales = np.ones((len(rows), 1, projection.width_out), projection.dtype)
        for scale, weights in zip(scales, rows, strict=True):
            if weights:
                scale[:] = weights.scale(projection)
        return scales


def _input(name: str, array: np.ndarray) -> ort.OrtValue:
    """Return A or B of several adapters with the dimensions that the graph has for slots."""
    return value_of(array[None, :, None] if name.endswith(LORA_A) else array[None, None, :, None])


def _slots(rows: Sequence[Weights | None], adapters: Sequence[Weights], kind: np.dtype) -> Inputs:
    """Return which rows the adapters' slots have; rows without an adapter are in slots that are left."""
    own = [[row for row, weights in enumerate(rows) if weights is adapter] for adapter in adapters]
    count = max(math.ceil(len(rows) / len(adapters)), *map(len, own))
    slots = np.zeros((len(adapters), count), np.int64)
    wanted = np.zeros((len(adapters), count, 1, 1), kind)
    places = np.zeros((len(rows), 4), np.int64)
    free = [(adapter, slot) for adapter, mine in enumerate(own) for slot in range(len(mine), count)]
    taken = [(adapter, slot, row) for adapter, mine in enumerate(own) for slot, row in enumerate(mine)]
    taken += [(*free.pop(), row) for row, weights in enumerate(rows) if weights is None]
    for adapter, slot, row in taken:
        slots[adapter, slot], wanted[adapter, slot] = row, rows[row] is not None
        places[row, 2:] = adapter, slot
    return {SLOTS: value_of(slots), WANTED: value_of(wanted), PLACES: value_of(places)}


def value_of(array: np.ndarray) -> ort.OrtValue:
    """Return an array as the runtime's value, which shares its memory."""
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
