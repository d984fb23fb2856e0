"""The adapters of a batch whose rows have different ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from press.serve.row_graph import LORA_A, LORA_B, SCALE, Projection

Inputs = dict[str, ort.OrtValue]


class Weights:
    """An adapter's values for the inputs of a graph.

    :raises RuntimeError: if they are not the graph's
    """

    def __init__(self, values: Mapping[str, np.ndarray], projections: Sequence[Projection]) -> None:
        self._values = values
        # What stands for it where its memory must not be held.
        self.key = object()
        self.ranks = {each.name: self.side(each, LORA_A).shape[1] for each in projections}
        _check(self, values, projections)

    def side(self, projection: Projection, side: str) -> np.ndarray:
        """Return A or B, without columns and rows where the adapter changes nothing."""
        empty = (projection.width_in, 0) if side == LORA_A else (0, projection.width_out)
        value = self._values.get(projection.name + side)
        return np.zeros(empty, projection.dtype) if value is None else value

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
    """Memory for the adapters of several rows, one before the other; one row has its adapter's own.

    A row's products are computed by themselves, as those of a single row are. So an adapter's answer is the same beside
    others, which is not so if their A stand side by side in one product with a mask for each row.
    """

    def __init__(self, projections: Sequence[Projection]) -> None:
        self._projections = projections
        self._arrays: dict[str, np.ndarray] = {}
        self._ranks: dict[str, int] = {}
        # Of the adapters that are there, None for none.
        self._keys: list[object | None] = []

    def inputs(self, rows: Sequence[Weights | None]) -> Inputs:
        """Return the adapters of rows as inputs of the graph."""
        if len(rows) == 1:
            ranks = {each.name: rows[0].ranks[each.name] if rows[0] else 0 for each in self._projections}
            arrays = self._memory(1, ranks) if rows[0] is None else self._own(rows[0])
            return {name: value_of(array) for name, array in arrays.items()}
        self._fit(rows)
        for place, weights in enumerate(rows):
            key = weights.key if weights else None
            if self._keys[place] is not key:
                self._write(place, weights)
                self._keys[place] = key
        return {name: value_of(array[: len(rows)]) for name, array in self._arrays.items()}

    def clear(self) -> None:
        """Give the memory back."""
        self._arrays, self._ranks, self._keys = {}, {}, []

    def _own(self, weights: Weights) -> dict[str, np.ndarray]:
        arrays = {}
        for each in self._projections:
            for side in (LORA_A, LORA_B):
                arrays[each.name + side] = weights.side(each, side)[None]
            if each.scaled:
                arrays[each.name + SCALE] = weights.scale(each)[None, None]
        return arrays

    def _memory(self, count: int, ranks: Mapping[str, int]) -> dict[str, np.ndarray]:
        arrays = {}
        for each in self._projections:
            rank = ranks[each.name]
            arrays[each.name + LORA_A] = np.zeros((count, each.width_in, rank), each.dtype)
            arrays[each.name + LORA_B] = np.zeros((count, rank, each.width_out), each.dtype)
            if each.scaled:
                arrays[each.name + SCALE] = np.ones((count, 1, each.width_out), each.dtype)
        return arrays

    def _fit(self, rows: Sequence[Weights | None]) -> None:
        """Have memory for the rows; that of lower ranks is filled with zeros."""
        ranks = {}
        for each in self._projections:
            ranks[each.name] = max([self._ranks.get(each.name, 0), *(row.ranks[each.name] for row in rows if row)])
        if ranks != self._ranks or len(rows) > len(self._keys):
            count = max(len(self._keys), 1 << (len(rows) - 1).bit_length())
            self._arrays, self._ranks = self._memory(count, ranks), ranks
            self._keys = [None for _ in range(count)]

    def _write(self, place: int, weights: Weights | None) -> None:
        for each in self._projections:
            down, up = (self._arrays[each.name + side][place] for side in (LORA_A, LORA_B))
            rank = weights.ranks[each.name] if weights else 0
            if weights:
                down[:, :rank], up[:rank] = weights.side(each, LORA_A), weights.side(each, LORA_B)
            down[:, rank:] = up[rank:] = 0
            if each.scaled:
                self._arrays[each.name + SCALE][place] = weights.scale(each) if weights else 1


def value_of(array: np.ndarray) -> ort.OrtValue:
    """Return an array as the runtime's value, which shares its memory."""
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
