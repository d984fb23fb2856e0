"""What the products of a LoRA branch cost for one token, each cold in memory, as between two tokens of a model.

    python -m bench.products --widths 576 1536 --rank 16
    python -m bench.products --kinds fp32 fp16 int8 nbits8

Every product of a graph has its own weights, as inputs, 24 MB in all in fp32; before each run something else is read,
so that none are in a cache. Prints a Markdown table: time a product, and at how many bytes a second its weights are
read. Rank 0 is what a branch computes without an adapter: what such a node costs is its start. In fp16, ONNX Runtime
casts the weights to fp32 before each product; int8 and nbits8 are its operators that take weights of 8 bits, with a
scale for all of them or one for a block.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

BYTES = 24_000_000
COPIES = (40, 400)
FLUSH = 64 << 20
TURNS = 30
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Kind:
    """An operator with a weight that is an input of the graph.

    :param dtype: of the weight
    :param scaled: inputs behind the weight: one scale and zero point for all of it, or a scale for each block
    """

    operator: str
    dtype: type[np.generic]
    scaled: str = ""

    def weight(self, shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
        """Return a weight of chance, laid out as the operator takes it."""
        values = generator.integers(-127, 127, shape).astype(self.dtype)
        return values.T.reshape(shape[1], -1, _block(shape)) if self.scaled == "blocks" else values

    def scales(self, shape: tuple[int, int]) -> dict[str, np.ndarray]:
        """Return what all products share."""
        if self.scaled == "blocks":
            return {"scales": np.ones(shape[1] * shape[0] // _block(shape), np.float32)}
        return {"scale": np.ones((), np.float32), "zero": np.zeros((), self.dtype)} if self.scaled else {}

    def attributes(self, shape: tuple[int, int]) -> dict[str, Any]:
        """Return the attributes of a node."""
        block = {"K": shape[0], "N": shape[1], "bits": 8, "block_size": _block(shape), "accuracy_level": 4}
        return block if self.scaled == "blocks" else {}


KINDS = {
    "fp32": Kind("MatMul", np.float32),
    "fp16": Kind("MatMul", np.float16),
    "int8": Kind("DynamicQuantizeMatMul", np.int8, "all"),
    "nbits8": Kind("MatMulNBits", np.uint8, "blocks"),
}


def _block(shape: tuple[int, int]) -> int:
    return min(shape[0], 32)


def words() -> argparse.Namespace:
    """Return the command line's words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[576, 1536], help="widths of a model's projections")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=["fp32"], help="of weights")
    return parser.parse_args()


def seconds(shape: tuple[int, int], threads: int, kind: Kind) -> float:
    """Return the median time of a product of one row with a matrix."""
    size = 4 * shape[0] * shape[1]
    copies = min(max(BYTES // size if size else COPIES[1], COPIES[0]), COPIES[1])
    generator = np.random.default_rng(0)
    weights = {f"w{index}": kind.weight(shape, generator) for index in range(copies)}
    scales = kind.scales(shape)
    model = _model(shape, kind, weights, scales)
    session = ort.InferenceSession(model, _options(threads), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    values = {"x": generator.standard_normal((1, shape[0]), np.float32), **weights, **scales}
    bound = {name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in values.items()}
    for name, value in bound.items():
        binding.bind_ortvalue_input(name, value)
    for index in range(copies):
        binding.bind_output(f"y{index}")
    other = np.zeros(FLUSH, np.uint8)
    times = []
    for _ in range(TURNS):
        other += 1
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        times.append(time.perf_counter() - start)
    return statistics.median(times) / copies


def _model(shape: tuple[int, int], kind: Kind, weights: dict[str, np.ndarray], scales: dict[str, np.ndarray]) -> bytes:
    row = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", shape[0]])
    inputs = [_described(name, value) for name, value in {**weights, **scales}.items()]
    results = [helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, None) for index in range(len(weights))]
    nodes = [node for index in range(len(weights)) for node in _nodes(shape, kind, index, list(scales))]
    graph = helper.make_graph(nodes, "products", [row, *inputs], results)
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def _described(name: str, value: np.ndarray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _nodes(shape: tuple[int, int], kind: Kind, index: int, scales: list[str]) -> list[onnx.NodeProto]:
    weight, result = f"w{index}", f"y{index}"
    if kind.dtype is np.float16:
        cast = helper.make_node("Cast", [weight], [f"{weight}/fp32"], to=TensorProto.FLOAT)
        return [cast, helper.make_node(kind.operator, ["x", f"{weight}/fp32"], [result])]
    domain = MICROSOFT if kind.scaled else ""
    return [helper.make_node(kind.operator, ["x", weight, *scales], [result], domain=domain, **kind.attributes(shape))]


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return options


def main() -> None:
    chosen = words()
    print("| weights | product | KB | µs | GB/s |\n|---|---|---|---|---|")
    for name, kind in ((name, KINDS[name]) for name in chosen.kinds):
        # An empty product of integers is refused.
        for rank in (chosen.rank,) if kind.scaled else (0, chosen.rank):
            for shape in [(width, rank) for width in chosen.widths] + [(rank, width) for width in chosen.widths]:
                spent, size = seconds(shape, chosen.threads, kind), np.dtype(kind.dtype).itemsize * shape[0] * shape[1]
                rate = f"{size / spent / 1e9:.1f}" if size else "–"
                product = f"1 × {shape[0]} by {shape[0]} × {shape[1]}"
                print(f"| {name} | {product} | {size / 1e3:.0f} | {spent * 1e6:.2f} | {rate} |", flush=True)


if __name__ == "__main__":
    main()
