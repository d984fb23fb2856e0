"""Say where two builds of an output part: the tensor and index, the node of the graph, the key, the line."""

import json
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from google.protobuf.message import Message

from press.verify import tensors

CHUNK = 1 << 20
MISSING = object()


def first_difference(recorded: Path, rebuilt: Path) -> str | None:
    """Return the first place where two files or folders differ, in words; None if they have the same bytes.

    A file whose format is not known, or that is damaged, is placed by the offset of the first byte.
    """
    if recorded.is_dir() and rebuilt.is_dir():
        return _of_folders(recorded, rebuilt)
    for path, what in ((recorded, "recorded"), (rebuilt, "rebuilt")):
        if not path.exists():
            return f"there is no {what} file"
    if recorded.is_dir() or rebuilt.is_dir():
        return f"the {'recorded' if recorded.is_dir() else 'rebuilt'} one is a folder, the other a file"
    offset = _first_byte(recorded, rebuilt)
    if offset is None:
        return None
    try:
        place = _in_format(recorded, rebuilt)
    except Exception:  # noqa: BLE001 - a damaged file is still placed, by its bytes
        place = None
    return place or f"byte {offset}"


def _of_folders(recorded: Path, rebuilt: Path) -> str | None:
    names = sorted(
        {path.relative_to(folder) for folder in (recorded, rebuilt) for path in folder.rglob("*") if path.is_file()}
    )
    for name in names:
        place = first_difference(recorded / name, rebuilt / name)
        if place:
            return f"{name.as_posix()}: {place}"
    return None


def _first_byte(recorded: Path, rebuilt: Path) -> int | None:
    offset = 0
    with recorded.open("rb") as first, rebuilt.open("rb") as second:
        while True:
            expected, actual = first.read(CHUNK), second.read(CHUNK)
            if expected != actual:
                pairs = enumerate(zip_longest(expected, actual))
                return offset + next(index for index, (one, two) in pairs if one != two)
            if not expected:
                return None
            offset += len(expected)


def _in_format(recorded: Path, rebuilt: Path) -> str | None:
    match recorded.suffix:
        case ".safetensors":
            heads = [tensors.safetensors_header(path).get("__metadata__", {}) for path in (recorded, rebuilt)]
            return _of_tensors(recorded, rebuilt) or _of_values(heads[0], heads[1], "metadata")
        case ".data" | ".onnx_adapter":
            return _of_tensors(recorded, rebuilt)
        case ".onnx":
            return _of_graphs(tensors.graph(recorded), tensors.graph(rebuilt))
        case ".json":
            return _of_values(*(json.loads(path.read_text(encoding="utf-8")) for path in (recorded, rebuilt)))
        case ".yaml":
            return _of_values(*(yaml.safe_load(path.read_text(encoding="utf-8")) for path in (recorded, rebuilt)))
        case _:
            return _of_lines(recorded, rebuilt)


def _of_tensors(recorded: Path, rebuilt: Path) -> str | None:
    first, second = tensors.read(recorded), tensors.read(rebuilt)
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second:
            return f"tensor {name} is only in the {'recorded' if name in first else 'rebuilt'} file"
        one, two = first[name], second[name]
        if (one.dtype, one.shape) != (two.dtype, two.shape):
            return f"tensor {name} is {one.dtype}{list(one.shape)}, rebuilt {two.dtype}{list(two.shape)}"
        index = _first_element(one, two)
        if index is not None:
            return f"tensor {name} at {list(index)}: {one[index]}, rebuilt {two[index]}"
    return None


def _first_element(one: np.ndarray, two: np.ndarray) -> tuple[int, ...] | None:
    """Return the index of the first element whose bytes differ: a NaN equals itself, -0.0 is not 0.0."""
    flat = [array.reshape(-1) for array in (one, two)]
    for start in range(0, one.size, CHUNK):
        expected, actual = (np.ascontiguousarray(part[start : start + CHUNK]).view(np.uint8) for part in flat)
        differ = expected != actual
        if differ.any():
            place = start + int(differ.argmax()) // one.itemsize
            return tuple(int(each) for each in np.unravel_index(place, one.shape))
    return None


def _of_graphs(first: onnx.ModelProto, second: onnx.ModelProto) -> str | None:
    for kind in ("node", "initializer", "input", "output", "value_info"):
        members: Iterable[tuple[Any, Any]] = zip_longest(getattr(first.graph, kind), getattr(second.graph, kind))
        for index, (one, two) in enumerate(members):
            if two is None:
                return f"{kind} {one.name} is only in the recorded graph"
            if one is None:
                return f"{kind} {two.name} is only in the rebuilt graph"
            if one != two:
                return f"{kind} {index}, {one.name}: {_of_messages(one, two)}"
    return _of_messages(first, second)


def _of_messages(one: Message, two: Message) -> str:
    """Return the first field in which two protobuf messages of one type differ."""
    for field in one.DESCRIPTOR.fields:
        values = [getattr(message, field.name) for message in (one, two)]
        if values[0] != values[1]:
            return f"{field.name} is {_shown(values[0])}, rebuilt {_shown(values[1])}"
    return "fields that this version of ONNX does not know"


def _of_values(one: object, two: object, path: str = "") -> str | None:
    """Return the first key (in the recorded order) where two values of JSON or YAML differ."""
    if isinstance(one, dict) and isinstance(two, dict):
        pairs = [
            (f"{path}.{key}" if path else str(key), one.get(key, MISSING), two.get(key, MISSING)) for key in one | two
        ]
    elif isinstance(one, list) and isinstance(two, list):
        both = zip_longest(one, two, fillvalue=MISSING)
        pairs = [(f"{path}[{index}]", *pair) for index, pair in enumerate(both)]
    elif json.dumps(one) == json.dumps(two):
        return None
    else:
        return f"{path or 'the value'} is {_shown(one)}, rebuilt {_shown(two)}"
    for place, expected, actual in pairs:
        if expected is MISSING or actual is MISSING:
            return f"{place} is only in the {'rebuilt' if expected is MISSING else 'recorded'} file"
        difference = _of_values(expected, actual, place)
        if difference:
            return difference
    order = isinstance(one, dict) and list(one) != list(two)
    return f"the keys of {path or 'the file'} have another order" if order else None


def _of_lines(recorded: Path, rebuilt: Path) -> str | None:
    with recorded.open(encoding="utf-8", newline="") as first, rebuilt.open(encoding="utf-8", newline="") as second:
        for number, (one, two) in enumerate(zip_longest(first, second), 1):
            if one != two:
                if recorded.suffix == ".jsonl" and one and two:
                    place = _of_values(json.loads(one), json.loads(two))
                    return f"line {number}, {place}" if place else f"line {number}"
                return f"line {number} is {_shown(one)}, rebuilt {_shown(two)}"
    return None


def _shown(value: object) -> str:
    text = "missing" if value is None else repr(value) if isinstance(value, str) else " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
