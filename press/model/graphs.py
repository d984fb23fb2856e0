"""Make a target's ONNX model out of a checkpoint by Olive's passes, and see that it loads."""

import shutil
from pathlib import Path

from press.core import files, paths
from press.core.errors import UserError
from press.model import checkpoints, graph_parity, node_names, olive_passes, olive_run, packaged
from press.params import schema
from press.params.providers import MERGED, SCALED_INPUTS
from press.params.settings import Target

WINDOW = 64  # tokens of a prompt that a graph of static shapes takes at a time, as in Olive's own recipes
# How onnxruntime-genai is told to run a static graph on the NPU.
NPU_SESSIONS = {
    # It compiles no weights in blocks, so that ONNX Runtime dequantizes them once, to the NPU's fp16.
    "QNNExecutionProvider": {
        "provider_options": [{"QNN": {"backend_type": "htp"}}],
        "session.disable_quant_qdq": "1",
    },
    "OpenVINOExecutionProvider": {"provider_options": [{"OpenVINO": {"device_type": "NPU"}}]},
    "VitisAIExecutionProvider": {"provider_options": [{"VitisAI": {}}]},
}
# To positions that an NPU reads, one long-rope table, and norms of operators that it has.
NPU_SURGERIES = ("RemoveRopeMultiCache", "AttentionMaskToSequenceLengths", "SimplifiedLayerNormToL2Norm")


def build(
    model: dict,
    target: Target,
    building: Path,
    before: dict[str, dict] | None = None,
    window: int = WINDOW,
    after: list[schema.OlivePass] | None = None,
) -> Path:
    """Build a quantized checkpoint's ONNX model for a target; return the folder of the result, below `building`.

    :param model: Olive's input_model block
    :param before: passes to run on the checkpoint first
    :param window: tokens of a prompt that a static graph takes at a time
    :param after: passes of Olive's own to run on the graph
    :raises UserError: if one of these breaks the graph
    """
    checkpoint = Path(model["model_path"])
    check_experts(target, checkpoint)
    accelerator = {"device": target.device, "execution_providers": [target.provider]}
    own = (before or {}) | passes(target, checkpoint, window)
    result = olive_run.run(model, own, building, accelerator)
    # Its files may be links to those of the result, which onnx.checker refuses.
    files.remove(building / "cache")
    check_loads(result, target.provider)
    if not after:
        return result
    given = olive_passes.blocks("after_capture", after)
    changed = _applied(given, result, target, building, accelerator)
    olive_run.configure(model, own | given, building, accelerator)
    return changed


def check_experts(target: Target, checkpoint: Path) -> None:
    """Refuse a provider whose product of experts was not compared with PyTorch's."""
    has_experts = checkpoints.has_experts(checkpoints.read_object(checkpoint / paths.CONFIG))
    if has_experts and target.provider != "CPUExecutionProvider":
        raise UserError(
            f"the model has experts, and their product by {target.provider} was not compared with PyTorch's: "
            "CPUExecutionProvider is the provider that takes them"
        )


def _applied(given: dict[str, dict], graph: Path, target: Target, building: Path, accelerator: dict) -> Path:
    """Run passes on a graph; return the folder of the result, with all that lay beside the graph."""

    def finish(before: Path, after: Path) -> tuple[Path, float | None]:
        # Its files may be links to those of the result, as above.
        files.remove(after.parent / "cache")
        for path in before.iterdir():
            if not path.name.startswith(paths.GRAPH):
                shutil.copyfile(path, after / path.name)
        cost = graph_parity.check(before, after, runs=_is_here(target.provider))
        check_loads(after, target.provider)
        return after, cost

    start = {"type": "ONNXModel", "model_path": str(graph), "onnx_file_name": paths.GRAPH}
    model_config = olive_passes.apply("after_capture", given, start, building, finish, accelerator)
    return Path(model_config["model_path"])


def _is_here(provider: str) -> bool:
    import onnxruntime as ort

    return provider in ort.get_available_providers()


def passes(target: Target, checkpoint: Path, window: int = WINDOW) -> dict[str, dict]:
    """Return Olive's passes block that turns a checkpoint into a target's model."""
    kernels = {"block_size": target.block_size, "accuracy_level": target.accuracy_level}
    precision = "float" if target.precision == "int8" else target.precision
    chosen = {"capture": {"type": "GenAIBuilder", "precision": precision, **kernels}}
    if target.precision == "int8":
        chosen["tables"] = {"type": "Int8Tables", **kernels}
    if target.device == "npu":
        return chosen | _static(target.provider, checkpoint, window)
    if target.adapters != MERGED:
        scaled = target.adapters == SCALED_INPUTS
        chosen["lora_inputs"] = {"type": "LoRAInputs", "checkpoint": str(checkpoint), "row_scales": scaled}
    return chosen


def _static(provider: str, checkpoint: Path, window: int) -> dict[str, dict]:
    """Return the passes to static shapes, with weights as DequantizeLinear: embedding, layers and head are apart."""
    layers = files.read_json(checkpoint / "config.json")["num_hidden_layers"]
    parts = {"model.embed_tokens": 0, **{f"model.layers.{index}": 1 for index in range(layers)}}
    # The builder counts the last norm as one layer more.
    parts |= {f"model.layers.{layers}": 2, "lm_head": 2}
    options = {"log_id": "onnxruntime-genai", **NPU_SESSIONS[provider]}
    data = {"save_as_external_data": True}
    return {
        "weights": {
            "type": "MatMulNBitsToQDQ",
            "add_zero_point": True,
            "nodes_to_exclude": [node_names.HEAD_IN_BLOCKS],
            **data,
        },
        "operators": {
            "type": "GraphSurgeries",
            "surgeries": [{"surgeon": surgeon} for surgeon in NPU_SURGERIES],
            **data,
        },
        "parts": {
            "type": "SplitModel",
            "split_assignments": ";".join(f"{name}={part}" for name, part in parts.items()),
        },
        "shapes": {
            "type": "StaticLLM",
            "batch_size": 1,
            "context_length": window,
            "group_session_options": options,
        },
    }


def check_loads(model: Path, provider: str) -> None:
    """Load a model once, since the builder can write one that does not load, or what a package may not have.

    Where its runtime is not here, onnx.checker and ONNX Runtime's CPU provider take its place.
    """
    import onnxruntime_genai as og

    packaged.runtime_config(model / paths.RUNTIME_CONFIG)
    if _is_here(provider):
        og.Model(str(model))
        return
    missing = sorted({kernel for graph in sorted(model.glob("*.onnx")) if (kernel := check_graph(graph))})
    seen = "onnx.checker and ONNX Runtime's CPU provider took the graph"
    if missing:
        seen = f"onnx.checker and ONNX Runtime's types took the graph; the CPU provider lacks {'; '.join(missing)}"
    print(f"note: {provider} is not on this machine: {seen}, which its own runtime has not loaded")


def check_graph(path: Path) -> str | None:
    """Check a graph by onnx.checker and load it by ONNX Runtime's CPU provider.

    ONNX Runtime resolves the whole graph, its own operators included, before it looks for kernels.

    :return: what kernel the CPU provider lacks, if any
    :raises onnx.checker.ValidationError: if the graph is not valid
    :raises Exception: ONNX Runtime's, if it cannot load the graph for any other reason than a kernel that it lacks
    """
    import onnxruntime as ort
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    check_schema(path)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except NoKernel as error:
        return str(error).partition(" : ")[2] or str(error)
    return None


def check_schema(path: Path) -> None:
    """Run onnx.checker, but for the arguments of ONNX Runtime's own operators, of which it knows nothing."""
    import onnx

    proto = onnx.load(path, load_external_data=False)
    for node in proto.graph.node:
        # ONNX Runtime puts some of its operators in ONNX's domain; the checker leaves other domains alone.
        if not node.domain and not onnx.defs.has(node.op_type):
            node.domain = "com.microsoft"
    # The checker looks for external data beside a file.
    copy = path.with_name(f".{path.name}")
    onnx.save(proto, copy)
    try:
        onnx.checker.check_model(copy)
    finally:
        files.remove(copy)
