"""Whether a graph is still the one that it was before a pass: for adapters, and in what it computes."""

import tempfile
from pathlib import Path

import numpy as np
import onnx

from press.core import files, paths
from press.core.errors import UserError
from press.model import adapter_inputs, checkpoints, parity

# Nats a token that a pass may cost, as much as a table in 4 bits does.
SAME = 0.1
# Of what an adapter with hundreds of branches changes, less than one of them does; and how much more than the bare
# graph a graph with an adapter may be off, where a pass rounds.
LOST, ROUNDED = 0.002, 4
# The adapter that both graphs are given: random, and strong enough that each of its branches counts.
RANK = 4
STRENGTH = 0.1


def check(before: Path, after: Path, *, runs: bool) -> float | None:
    """Refuse a graph whose inputs for adapters a pass has changed, or that computes something else than before.

    :param runs: whether this machine has the runtime to compare what they compute
    :return: the divergence of the bare graph in nats a token, None if it does not run here
    :raises UserError: saying what the pass broke
    """
    if not (after / paths.GRAPH).exists():
        raise UserError(f"it leaves no {paths.GRAPH}, which the runtime looks for")
    layout = files.read_json(before / paths.LAYOUT) if (before / paths.LAYOUT).exists() else None
    if layout:
        _check_inputs(before / paths.GRAPH, after / paths.GRAPH, set(_random(layout)))
    return _check_numbers(before, after, layout) if runs else None


def _check_inputs(before: Path, after: Path, names: set[str]) -> None:
    """Refuse a graph in which an adapter's input is gone, is of another kind, must be given, or is not used."""
    was, graph = (onnx.load(path, load_external_data=False).graph for path in (before, after))
    expected, actual = _inputs(was), _inputs(graph)
    defaults = {tensor.name for tensor in graph.initializer}
    used = {name for node in graph.node for name in node.input}
    for name in sorted(names):
        if name not in actual:
            wrong = "is gone"
        elif actual[name] != expected[name]:
            wrong = f"is {actual[name]}, but was {expected[name]}"
        elif name not in defaults:
            wrong = "has no default, without which the graph does not run bare"
        elif name not in used:
            wrong = "is not used"
        else:
            continue
        raise UserError(f"it breaks the inputs for adapters: the graph's {name} {wrong}")


def _inputs(graph: onnx.GraphProto) -> dict[str, str]:
    """Map the name of each input to its type and shape in words."""
    descriptions = {}
    for each in graph.input:
        tensor = each.type.tensor_type
        shape = ", ".join(size.dim_param or str(size.dim_value) for size in tensor.shape.dim)
        descriptions[each.name] = f"{onnx.TensorProto.DataType.Name(tensor.elem_type)} [{shape}]"
    return descriptions


def _check_numbers(before: Path, after: Path, layout: dict | None) -> float:
    ids = checkpoints.tokenizer(before)(parity.TEXT)["input_ids"]
    bare, changed = (_logits(folder, ids) for folder in (before, after))
    cost = parity.divergence(bare, changed)
    if not cost <= SAME:
        raise UserError(
            f"it breaks the graph, which is {cost:.3g} nats a token from what it was; at most {SAME:g} is let pass"
        )
    if layout is None:
        return cost
    with tempfile.TemporaryDirectory() as scratch:
        adapter = Path(scratch, paths.ADAPTER_FILE)
        adapter_inputs.write(_random(layout), adapter)
        adapted, changed = (_logits(folder, ids, adapter) for folder in (before, after))
    effect, distance = parity.divergence(bare, adapted), parity.divergence(adapted, changed)
    if not distance <= max(LOST * effect, ROUNDED * cost):
        raise UserError(
            f"it breaks adapters: with one that changes what the graph says by {effect:.3g} nats a token, the graph is "
            f"{distance:.3g} from what it was, and without {cost:.3g}"
        )
    return cost


def _random(layout: dict) -> dict[str, np.ndarray]:
    """Return the tensors of an adapter for all inputs of a graph."""
    generator = np.random.default_rng(0)
    tensors = {}
    for projection in layout["projections"]:
        name, width = projection["name"], projection["width_in"]
        tensors[f"{name}.lora_A"] = generator.normal(0, width**-0.5, (width, RANK))
        tensors[f"{name}.lora_B"] = generator.normal(0, STRENGTH, (RANK, projection["width_out"]))
        if layout["row_scales"]:
            tensors[f"{name}.row_scale"] = generator.uniform(0.9, 1.1, projection["width_out"])
    return {name: tensor.astype(layout["dtype"]) for name, tensor in tensors.items()}


def _logits(folder: Path, ids: list[int], adapter: Path | None = None) -> np.ndarray:
    """Return the logits, fp32 of shape (tokens, vocabulary)."""
    import onnxruntime_genai as og

    try:
        model = og.Model(str(folder))
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=len(ids) + 1)
        generator = og.Generator(model, params)
        if adapter:
            adapters = og.Adapters(model)
            adapters.load(str(adapter), "adapter")
            generator.set_active_adapter(adapters, "adapter")
        generator.append_tokens(ids)
        return generator.get_output("logits")[0].astype(np.float32)
    except Exception as error:
        # The runtime's own, of which it has many and none of its own.
        raise UserError(f"the runtime cannot run the graph any more: {' '.join(str(error).split())}") from error
