"""What the products of a LoRA branch cost for one token, each cold in memory, as between two tokens of a model.

    python -m bench.products --widths 576 1536 --rank 16

Every product of a graph has its own weights, as inputs, 24 MB in all; before each run something else is read, so that
none are in a cache. Prints a Markdown table: time a product, and at how many bytes a second its weights are read. Rank
0 is what a branch computes without an adapter: what such a node costs is its start.
"""

import argparse
import statistics
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

BYTES = 24_000_000
COPIES = (40, 400)
FLUSH = 64 << 20
TURNS = 30


def words() -> argparse.Namespace:
    """Return the command line's words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[576, 1536], help="widths of a model's projections")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def seconds(shape: tuple[int, int], threads: int) -> float:
    """Return the median time of a product of one row with a matrix."""
    size = 4 * shape[0] * shape[1]
    copies = min(max(BYTES // size if size else COPIES[1], COPIES[0]), COPIES[1])
    session = ort.InferenceSession(_model(shape, copies), _options(threads), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    binding = session.io_binding()
    values = {"x": generator.standard_normal((1, shape[0]), np.float32)}
    values |= {f"w{index}": generator.standard_normal(shape, np.float32) for index in range(copies)}
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


def _model(shape: tuple[int, int], copies: int) -> bytes:
    row = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", shape[0]])
    weights = [helper.make_tensor_value_info(f"w{index}", TensorProto.FLOAT, shape) for index in range(copies)]
    results = [helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, None) for index in range(copies)]
    nodes = [helper.make_node("MatMul", ["x", f"w{index}"], [f"y{index}"]) for index in range(copies)]
    graph = helper.make_graph(nodes, "products", [row, *weights], results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10).SerializeToString()


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return options


def main() -> None:
    chosen = words()
    print("| product | KB | µs | GB/s |\n|---|---|---|---|")
    for rank in (0, chosen.rank):
        for shape in [(width, rank) for width in chosen.widths] + [(rank, width) for width in chosen.widths]:
            spent, size = seconds(shape, chosen.threads), 4 * shape[0] * shape[1]
            rate = f"{size / spent / 1e9:.1f}" if size else "–"
            print(f"| 1 × {shape[0]} by {shape[0]} × {shape[1]} | {size / 1e3:.0f} | {spent * 1e6:.2f} | {rate} |")


if __name__ == "__main__":
    main()
