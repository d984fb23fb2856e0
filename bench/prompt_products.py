"""How fast the products of a prompt are in ONNX Runtime, by the operator that a graph may have and the number of rows.

    python -m bench.prompt_products                     a layer of the default model
    python -m bench.prompt_products --shapes 2048x8192 --rows 16 512

Each is a model of one product with constant weights of its own, on one thread; times are of the processor, which other
work on the machine changes least. Prints a Markdown table: billions of operations a second (GFLOP/s) of a core, two for
each weight and row. int8 is per column, which is another model than blocks with a scale each; it is there for what the
processor can do.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

SHAPES = ["576x1536", "1536x576"]
ROWS = [1, 4, 16, 64, 256, 1024]
MICROSOFT = "com.microsoft"
Made = tuple[str, dict[str, np.ndarray], dict[str, Any], str]


def n_bits(bits: int, block: int, level: int) -> Callable[[int, int, np.random.Generator], Made]:
    """Return what makes a MatMulNBits of so many bits, with one scale and zero point for a block of weights."""

    def make(terms: int, columns: int, generator: np.random.Generator) -> Made:
        blocks = -(-terms // block)
        weights = {
            "w": generator.integers(0, 256, (columns, blocks, block * bits // 8), np.uint8),
            "scales": generator.random(columns * blocks, np.float32),
            "zeros": generator.integers(0, 256, columns * -(-blocks * bits // 8), np.uint8),
        }
        attributes = {"K": terms, "N": columns, "bits": bits, "block_size": block, "accuracy_level": level}
        return "MatMulNBits", weights, attributes, MICROSOFT

    return make


def floats(terms: int, columns: int, generator: np.random.Generator) -> Made:
    """Return a MatMul in fp32."""
    return "MatMul", {"w": generator.standard_normal((terms, columns), np.float32)}, {}, ""


def integers(terms: int, columns: int, generator: np.random.Generator) -> Made:
    """Return a product of int8, whose left factor is rounded in it."""
    weights = {
        "w": generator.integers(-127, 128, (terms, columns), np.int8),
        "scale": np.full((), 0.01, np.float32),
        "zero": np.zeros((), np.int8),
    }
    return "DynamicQuantizeMatMul", weights, {}, MICROSOFT


KINDS = {
    "4 bits in blocks of 32, int8 inputs (level 4)": n_bits(4, 32, 4),
    "the same in blocks of 64": n_bits(4, 64, 4),
    "the same in blocks of 128": n_bits(4, 128, 4),
    "4 bits in blocks of 32, fp32 inputs (level 1)": n_bits(4, 32, 1),
    "8 bits in blocks of 64, int8 inputs (level 4)": n_bits(8, 64, 4),
    "fp32": floats,
    "int8": integers,
}


def rate(made: Made, terms: int, columns: int, rows: int, seconds: float) -> float:
    """Return the operations a second of a product, by the shortest of five times."""
    session = _session(made, terms)
    given = {"x": np.random.default_rng(1).standard_normal((rows, terms), np.float32)}
    for _ in range(3):
        session.run(None, given)
    start = time.process_time()
    session.run(None, given)
    count = max(int(seconds / 5 / max(time.process_time() - start, 1e-6)), 1)
    times = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(count):
            session.run(None, given)
        times.append((time.process_time() - start) / count)
    return 2 * rows * terms * columns / min(times)


def _session(made: Made, terms: int) -> ort.InferenceSession:
    operator, weights, attributes, domain = made
    node = helper.make_node(operator, ["x", *weights], ["y"], domain=domain, **attributes)
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    rows = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", terms])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "product", [rows], [result], tensors)
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid(MICROSOFT, 1)]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Print a line for each shape and operator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="TERMSxCOLUMNS of the products")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each figure")
    chosen = parser.parse_args()
    print(f"| GFLOP/s by rows | {' | '.join(map(str, chosen.rows))} |\n|{'---|' * (1 + len(chosen.rows))}")
    for shape in chosen.shapes:
        terms, columns = map(int, shape.split("x"))
        for name, make in KINDS.items():
            made = make(terms, columns, np.random.default_rng(0))
            rates = [rate(made, terms, columns, rows, chosen.seconds) for rows in chosen.rows]
            print(f"| {shape}, {name} | {' | '.join(f'{each / 1e9:.0f}' for each in rates)} |", flush=True)


if __name__ == "__main__":
    main()
