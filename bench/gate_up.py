"""What it would gain to compute gate and up in one product, and to store an adapter in fp16: decoding, in turns.

    python -m bench.gate_up                    after `make repro`
    python -m bench.gate_up --threads 2 --variants adapter "adapter, gate and up in one"

Makes variants of a package's graph: bare (without LoRA inputs); one MatMulNBits for gate and up, with the rows of both,
and behind it one branch with one A and one block matrix B; A and B as fp16 inputs, which are cast to fp32. The largest
difference of a logit is printed. They decode in turns in one process; on one thread, times are of the processor, which
other work on the machine changes least. A ratio is the median of the ratios within a turn to the first variant.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime_genai as og
from onnx import TensorProto, helper, numpy_helper

from bench.runtime import graph
from press.core import paths
from press.model import adapter_inputs

PARTS = ("gate_proj", "up_proj")
BARE, INPUTS, ADAPTER, HALVED = "bare", "LoRA inputs", "adapter", "adapter in fp16"
JOINED = "gate and up in one"
VARIANTS = (*(f"{name}{end}" for name in (BARE, INPUTS, ADAPTER) for end in ("", f", {JOINED}")), HALVED)
BRANCH = ("lora_A/MatMul", "lora_B/MatMul", "lora/Add")


@dataclass
class Variant:
    """A model that decodes, with an adapter or without, and its tokens a second in each turn."""

    folder: Path
    adapter: Path | None = None
    speeds: list[float] = field(default_factory=list)


def join(proto: onnx.ModelProto) -> None:
    """Compute gate and up in one product, in place, and their branches, if there are any, in one."""
    by_name = {node.name: node for node in proto.graph.node}
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    gone, made = set(), {}
    for name, gate in by_name.items():
        if not name.endswith("/mlp/gate_proj/MatMulNBits"):
            continue
        pair = [gate, by_name[name.replace(*PARTS)]]
        joined, nodes = _joined(proto.graph, pair, by_name, tensors)
        gone |= joined
        made[name] = nodes
    nodes = [each for node in proto.graph.node for each in (*made.get(node.name, ()), node)]
    kept = [node for node in nodes if node.name not in gone]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    fields: Any = (proto.graph.initializer, proto.graph.input)
    for values in fields:
        left = [value for value in values if value.name in used]
        del values[:]
        values.extend(left)


def _joined(
    of: onnx.GraphProto, pair: list[onnx.NodeProto], by_name: dict[str, onnx.NodeProto], tensors: dict
) -> tuple[set[str], list[onnx.NodeProto]]:
    """Return the names of the nodes that two projections have, and the nodes that take their place."""
    name = pair[0].name.replace("gate_proj", "gate_up_proj")
    attributes: dict[str, Any] = {each.name: each.i for each in pair[0].attribute}
    columns = attributes.pop("N")
    constants = []
    for index in range(1, len(pair[0].input)):
        values = [numpy_helper.to_array(tensors[node.input[index]]) for node in pair]
        constants.append(f"{name}/{index}")
        of.initializer.append(numpy_helper.from_array(np.concatenate(values), constants[-1]))
    branches = [[by_name.get(f"{node.name}/{part}") for part in BRANCH] for node in pair]
    results = [(branch[-1] or node).output[0] for node, branch in zip(pair, branches, strict=True)]
    joined = {each.name for node, branch in zip(pair, branches, strict=True) for each in (node, *branch) if each}
    product = [pair[0].input[0], *constants]
    nodes = [helper.make_node(pair[0].op_type, product, [f"{name}/y"], name, None, "com.microsoft", **attributes)]
    nodes[0].attribute.append(helper.make_attribute("N", 2 * columns))
    result = f"{name}/y"
    if branches[0][0]:
        a, b = (f"{name.removeprefix('/').replace('/', '.')}.{side}" for side in "AB")
        terms = attributes["K"]
        for side, empty in ((a, (terms, 0)), (b, (0, 2 * columns))):
            shape = [size or f"{name}.rank" for size in empty]
            of.input.append(helper.make_tensor_value_info(side, TensorProto.FLOAT, shape))
            of.initializer.append(numpy_helper.from_array(np.zeros(empty, np.float32), side))
        nodes += [
            helper.make_node("MatMul", [pair[0].input[0], a], [f"{name}/a"], f"{name}/{BRANCH[0]}"),
            helper.make_node("MatMul", [f"{name}/a", b], [f"{name}/b"], f"{name}/{BRANCH[1]}"),
            helper.make_node("Add", [result, f"{name}/b"], [f"{name}/sum"], f"{name}/{BRANCH[2]}"),
        ]
        result = f"{name}/sum"
    nodes.append(helper.make_node("Split", [result], results, f"{name}/Split", axis=-1, num_outputs=2))
    return joined, nodes


def joined_adapter(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return an adapter's tensors for a graph that `join` made."""
    made = dict(inputs)
    for name in inputs:
        if not name.endswith(".gate_proj.lora_A"):
            continue
        a, b = ([made.pop(name.replace("gate_proj", part)[:-1] + side) for part in PARTS] for side in "AB")
        rank, columns = b[0].shape
        block = np.zeros((2 * rank, 2 * columns), np.float32)
        block[:rank, :columns], block[rank:, columns:] = b
        of = name.removesuffix(".gate_proj.lora_A") + ".gate_up_proj.MatMulNBits"
        made |= {f"{of}.A": np.concatenate(a, 1), f"{of}.B": block}
    return made


def halve(proto: onnx.ModelProto) -> None:
    """Take an adapter's tensors in fp16, in place, and cast them."""
    sides = {value.name for value in proto.graph.input if value.name.endswith(graph.INPUTS)}
    for value in proto.graph.input:
        if value.name in sides:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for tensor in proto.graph.initializer:
        if tensor.name in sides:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(list(tensor.dims), np.float16), tensor.name))
    nodes = []
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name in sides:
                nodes.append(helper.make_node("Cast", [name], [f"{name}/fp32"], f"{name}/Cast", to=TensorProto.FLOAT))
                node.input[index] = f"{name}/fp32"
        nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def write(package: Path, folder: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """Write a package's model as `change` leaves it."""
    folder.mkdir()
    proto = onnx.load(package / paths.GRAPH)
    change(proto)
    onnx.save(proto, folder / paths.GRAPH, save_as_external_data=True, location=f"{paths.GRAPH}.data")
    for name in (paths.RUNTIME_CONFIG, "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((package / name).read_bytes())
    return folder


def variants(package: Path, adapter: str, scratch: Path) -> dict[str, Variant]:
    """Return what takes turns; the first is what others are compared with."""
    source = package / "adapters" / adapter / paths.ADAPTER_FILE
    read = ort.AdapterFormat.read_adapter(str(source)).get_parameters()
    inputs = {name: value.numpy() for name, value in read.items()}
    adapter_inputs.write(joined_adapter(inputs), scratch / "joined.onnx_adapter")
    halved = {name: value.astype(np.float16) for name, value in inputs.items()}
    adapter_inputs.write(halved, scratch / "fp16.onnx_adapter")

    def bare(proto: onnx.ModelProto) -> None:
        graph.strip_branches(proto.graph)

    def bare_joined(proto: onnx.ModelProto) -> None:
        bare(proto)
        join(proto)

    folders = {
        name: write(package, scratch / name, change)
        for name, change in (("bare", bare), ("bare-joined", bare_joined), ("joined", join), ("fp16", halve))
    }
    return {
        BARE: Variant(folders["bare"]),
        f"{BARE}, {JOINED}": Variant(folders["bare-joined"]),
        INPUTS: Variant(package),
        f"{INPUTS}, {JOINED}": Variant(folders["joined"]),
        ADAPTER: Variant(package, source),
        f"{ADAPTER}, {JOINED}": Variant(folders["joined"], scratch / "joined.onnx_adapter"),
        HALVED: Variant(folders["fp16"], scratch / "fp16.onnx_adapter"),
    }


def race(of: dict[str, Variant], chosen: argparse.Namespace) -> dict[str, np.ndarray]:
    """Let the variants decode in turns, note their speeds, and return the logits of the prompt's last token."""
    loaded, logits = {}, {}
    clock = time.process_time if chosen.threads == 1 else time.perf_counter
    options = {"intra_op_num_threads": chosen.threads}
    for name, variant in of.items():
        config = og.Config(str(variant.folder))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        model = og.Model(config)
        adapters = og.Adapters(model)
        if variant.adapter:
            adapters.load(str(variant.adapter), "adapter")
        loaded[name] = model, adapters
    prompt = list(range(1000, 1000 + chosen.prompt))
    for turn in range(chosen.rounds + 1):
        for name, (model, adapters) in loaded.items():
            params = og.GeneratorParams(model)
            length = len(prompt) + 1 + chosen.tokens
            params.set_search_options(max_length=length, min_length=length, do_sample=False)
            generator = og.Generator(model, params)
            if of[name].adapter:
                generator.set_active_adapter(adapters, "adapter")
            generator.append_tokens(prompt)
            logits[name] = generator.get_output("logits")[0, -1].copy()
            generator.generate_next_token()
            start = clock()
            for _ in range(chosen.tokens):
                generator.generate_next_token()
            # The first turn warms up.
            of[name].speeds += [chosen.tokens / (clock() - start)] * (turn > 0)
    return logits


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, default=paths.PACKAGES / "cpu")
    parser.add_argument("--adapter", default="packing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=16, help="tokens that are decoded behind")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=32, help="decoded in a turn")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, metavar="NAME")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = variants(chosen.package, chosen.adapter, Path(scratch))
        measured = {name: made[name] for name in chosen.variants}
        logits = race(measured, chosen)
    first = chosen.variants[0]
    print(f"| variant | tokens/s | to {first} | logits differ from its by |\n|---|---|---|---|")
    for name, variant in measured.items():
        pairs = zip(variant.speeds, measured[first].speeds, strict=True)
        ratio = statistics.median(own / other for own, other in pairs)
        apart = np.abs(logits[name] - logits[first]).max()
        print(f"| {name} | {statistics.median(variant.speeds):.1f} | {ratio:.3f} | {apart:.2g} |")


if __name__ == "__main__":
    main()
