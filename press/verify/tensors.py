"""Read the tensors of any file that the pipeline writes, by name, mapped and not loaded."""

import json
import mmap
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from press.core import paths

SAFETENSORS = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I16": np.dtype(np.int16),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}


def read(path: Path) -> dict[str, np.ndarray]:
    """Map the name of each tensor in a file to its values.

    Read are .safetensors, .onnx_adapter, and the external data of the graph beside it (model.onnx.data). Types of less
    than a byte are given as the bytes that hold them.
    """
    return READERS[path.suffix](path)


def safetensors_header(path: Path) -> dict:
    """Return the JSON header of a safetensors file (https://huggingface.co/docs/safetensors)."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))


def graph(path: Path) -> onnx.ModelProto:
    """Return an ONNX model without its external data."""
    return onnx.load(path, load_external_data=False)


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    header = safetensors_header(path)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + struct.unpack("<Q", mapped[:8])[0]
    return {
        name: _array(mapped, start + entry["data_offsets"][0], SAFETENSORS[entry["dtype"]], entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _external(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    arrays = {}
    for tensor in graph(path.with_name(paths.GRAPH)).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place.get("location") == path.name:
            kind, length = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)), int(place["length"])
            whole = kind.itemsize * int(np.prod(tensor.dims)) == length
            shape, kind = (list(tensor.dims), kind) if whole else ([length], np.dtype(np.uint8))
            arrays[tensor.name] = _array(mapped, int(place["offset"]), kind, shape)
    return arrays


def _adapter(path: Path) -> dict[str, np.ndarray]:
    from onnxruntime import AdapterFormat

    adapter = AdapterFormat.read_adapter(str(path))
    # The values are the adapter's memory, which lives only as long as it does.
    return {name: np.array(value.numpy()) for name, value in adapter.get_parameters().items()}


def _array(mapped: mmap.mmap, offset: int, kind: np.dtype, shape: list[int]) -> np.ndarray:
    return np.frombuffer(mapped, kind, int(np.prod(shape)), offset).reshape(shape)


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".safetensors": _safetensors,
    ".data": _external,
    ".onnx_adapter": _adapter,
}
