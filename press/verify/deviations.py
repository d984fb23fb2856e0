"""How far two builds of an output are from each other, where their bytes cannot be the same."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from press.verify import tensors

DIGEST = re.compile(r"[0-9a-f]{64}")
NUMBERS = (int, float)
# Names of what cannot be compared, in one sentence.
SHOWN = 3


@dataclass
class Deviation:
    """How far a rebuilt output is from the recorded one.

    :ivar values: the largest relative error of a tensor of floats, ‖rebuilt - recorded‖ / ‖recorded‖, and its name
    :ivar codes: the largest share of elements of a tensor of integers (quantized weights) that differ, and its name
    :ivar figures: the largest relative difference of two numbers in a report, and their key
    :ivar texts: what differs and has no distance: answers, prose
    :ivar structure: what differs and must not: a missing tensor, another shape, another graph, another key
    """

    values: tuple[float, str] = (0.0, "")
    codes: tuple[float, str] = (0.0, "")
    figures: tuple[float, str] = (0.0, "")
    texts: list[str] = field(default_factory=list)
    structure: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Say the largest of each kind, the worst kind first; nothing where the two are the same."""
        parts = [f"not comparable: {', '.join(self.structure[:SHOWN])}"] if self.structure else []
        for (largest, where), what in (
            (self.values, "a tensor of floats is off by"),
            (self.codes, "codes that differ:"),
            (self.figures, "a figure is off by"),
        ):
            parts += [f"{what} {largest:.2g} of {where}"] if largest else []
        parts += [f"{len(self.texts)} texts differ"] if self.texts else []
        return "; ".join(parts)


def measure(recorded: Path, rebuilt: Path) -> Deviation:
    """Return how far two builds of a file or a folder are from each other."""
    deviation = Deviation()
    if recorded.is_file() != rebuilt.is_file():
        deviation.structure.append(f"{recorded.name}: one build has a folder there")
        return deviation
    if recorded.is_file():
        _file(recorded, rebuilt, recorded.name, deviation)
        return deviation
    for name in sorted({path.relative_to(folder) for folder in (recorded, rebuilt) for path in _files(folder)}):
        if (recorded / name).is_file() and (rebuilt / name).is_file():
            _file(recorded / name, rebuilt / name, name.as_posix(), deviation)
        else:
            deviation.structure.append(f"{name}: only one build has it")
    return deviation


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _file(recorded: Path, rebuilt: Path, name: str, deviation: Deviation) -> None:
    if recorded.suffix in tensors.READERS:
        _tensors(tensors.read(recorded), tensors.read(rebuilt), name, deviation)
    elif recorded.suffix == ".onnx":
        _graphs(tensors.graph(recorded), tensors.graph(rebuilt), name, deviation)
    elif recorded.suffix == ".json":
        one, two = (json.loads(path.read_text(encoding="utf-8")) for path in (recorded, rebuilt))
        _values(one, two, name, deviation)
    elif recorded.read_bytes() != rebuilt.read_bytes():
        deviation.texts.append(name)


def _tensors(first: dict[str, np.ndarray], second: dict[str, np.ndarray], where: str, deviation: Deviation) -> None:
    for name in first.keys() | second.keys():
        one, two = first.get(name), second.get(name)
        if one is None or two is None or (one.dtype, one.shape) != (two.dtype, two.shape):
            deviation.structure.append(f"{where}: tensor {name}")
        elif np.issubdtype(one.dtype, np.integer) or one.dtype == np.bool_:
            share = float((one != two).mean()) if one.size else 0.0
            deviation.codes = max(deviation.codes, (share, f"{where}: {name}"))
        else:
            deviation.values = max(deviation.values, (_relative(one, two), f"{where}: {name}"))


def _relative(one: np.ndarray, two: np.ndarray) -> float:
    first, second = one.astype(np.float32), two.astype(np.float32)
    distance, norm = np.linalg.norm(second - first), np.linalg.norm(first)
    return float(distance / norm) if norm else float(distance > 0)


def _graphs(first: onnx.ModelProto, second: onnx.ModelProto, where: str, deviation: Deviation) -> None:
    values = []
    for model in (first, second):
        inside = [tensor for tensor in model.graph.initializer if not tensor.external_data]
        values.append({tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in inside})
        for tensor in inside:
            for data in ("raw_data", "float_data", "int32_data", "int64_data"):
                tensor.ClearField(data)
    _tensors(values[0], values[1], where, deviation)
    if first != second:
        deviation.structure.append(f"{where}: the graph")


def _values(one: Any, two: Any, path: str, deviation: Deviation) -> None:
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        for key in one:
            _values(one[key], two[key], f"{path}.{key}", deviation)
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for index, pair in enumerate(zip(one, two, strict=True)):
            _values(*pair, f"{path}[{index}]", deviation)
    elif all(isinstance(each, NUMBERS) and not isinstance(each, bool) for each in (one, two)):
        larger = max(abs(one), abs(two))
        deviation.figures = max(deviation.figures, (abs(one - two) / larger if larger else 0.0, path))
    elif isinstance(one, str) and isinstance(two, str):
        # A digest follows from the bytes.
        if one != two and not (DIGEST.fullmatch(one) and DIGEST.fullmatch(two)):
            deviation.texts.append(path)
    elif one != two:
        deviation.structure.append(path)
