"""Every execution provider that a target may name: its graphs are built, checked, and run by the CPU provider.

docs/targets.md has the table of what this finds. On a provider's own hardware nothing is run here but the CPU's.
"""

import collections
import shutil
from pathlib import Path

import onnx
import onnxruntime
import pytest
from parity import TARGET, TOLERANCE, converted, distance, pytorch_logits, random_adapter
from projects import ROOT

from app import Chat, UserError
from bench import target_table, tested_table
from passes import merge_adapter
from press.core import files, paths
from press.model import conversion, graphs, olive_run, packaged, quantization
from press.model.runtime import Runtime
from press.params import schema, settings
from press.params.providers import INPUTS, PROVIDERS

pytestmark = pytest.mark.integration
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# A rounding in fp16 is 5e-4 of a value, and there are some ten in a row; a wrong sign or branch changes a logit wholly.
HALF = 2e-2
# The norms that NPUs have leave out an epsilon of 1e-6.
STATIC = 1e-4
WINDOW = 16
PARAMS = settings.load(ROOT / "params.yaml")
RTN = PARAMS.model_copy(update={"quantize": PARAMS.quantize.model_copy(update={"algorithm": "rtn"})})
TYPES = {"float32": "FLOAT", "float16": "FLOAT16"}
PROMPTS = (list(range(40, 52)), list(range(40, 90)))
TENSORRT = "NvTensorRTRTXExecutionProvider"
CASES = [(name, precision) for name, provider in PROVIDERS.items() for precision in provider.precisions]


@pytest.fixture
def found(request: pytest.FixtureRequest) -> dict:
    """What a test found; it is kept where `--targets-report FOLDER` says."""
    result: dict = {}
    yield result
    folder = request.config.getoption("--targets-report")
    if folder:
        files.write_json(Path(folder) / f"{request.node.name}.json", result)


@pytest.fixture(scope="module")
def checkpoints_of(tiny_base: Path, tiny_quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The tiny base in int4, with zero points (False) and without (True)."""
    folder = tmp_path_factory.mktemp("symmetric")
    (folder / "passes").symlink_to(ROOT / "passes")
    (folder / "building").mkdir()
    params = RTN.quantize.model_copy(update={"symmetric": True})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return {False: tiny_quantized, True: quantization.quantize(params, tiny_base, folder / "building", 0)}


def built(name: str, checkpoint: Path, folder: Path, precision: str = "float", adapter: Path | None = None) -> Path:
    """Build a provider's model with fp32 products, so that what it computes can be compared."""
    provider = PROVIDERS[name]
    target = schema.Target(
        device=provider.device,
        provider=name,
        precision=precision,
        block_size=32,
        accuracy_level=1,
        adapters=provider.adapters[0],
    )
    model = olive_run.hf_model(checkpoint)
    if adapter:
        merging = conversion.merging(RTN)
        return graphs.build({**model, "adapter_path": str(adapter)}, target, folder, merging, WINDOW)
    return graphs.build(model, target, folder, window=WINDOW)


def on_cpu(model: Path, folder: Path) -> Path:
    """Copy a model to a folder where onnxruntime-genai runs it on the CPU, in full precision."""
    shutil.copytree(model, folder)
    config = files.read_json(folder / "genai_config.json")
    decoder = config["model"]["decoder"]
    parts = [part for each in decoder.get("pipeline", []) for part in each.values()]
    for options in [
        decoder["session_options"],
        *(part["session_options"] for part in parts if "session_options" in part),
    ]:
        options["provider_options"] = []
        options["session.qdq_matmulnbits_accuracy_level"] = "1"
    files.write_json(folder / "genai_config.json", config)
    return folder


def requantized(base: Path, adapter: Path, folder: Path) -> Path:
    """Merge an adapter and quantize the result as the base was; return the checkpoint's folder."""
    merge_adapter.merge(base, adapter).save_pretrained(folder / "plain")
    for path in base.glob("*token*"):
        shutil.copyfile(path, folder / "plain" / path.name)
    (folder / "building").mkdir()
    return quantization.quantize(RTN.quantize, folder / "plain", folder / "building", 0)


def operators(model: Path) -> collections.Counter:
    """Count the operators of all of a model's graphs."""
    return collections.Counter(node.op_type for path in model.glob("*.onnx") for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_provider_s_graph_is_valid_and_has_the_operators_that_it_should(
    checkpoints_of, in_root, capsys, found, name, precision
):
    result = built(name, checkpoints_of[name == TENSORRT], in_root, precision)
    noted = f"note: {name} is not on this machine: onnx.checker and ONNX Runtime's CPU provider took the graph"
    here = name in onnxruntime.get_available_providers()
    assert (noted in capsys.readouterr().out) is not here
    parts = list(result.glob("*.onnx"))
    assert [graphs.check_graph(path) for path in parts] == [None] * len(parts)
    counts = operators(result)
    static, table = PROVIDERS[name].device == "npu", int(precision != "float")
    # Two layers with q, k and v (in one, but on DirectML), o, gate, up and down; NPUs have a graph for prompts and one
    # for single tokens.
    products = (2 if static else 1) * 2 * (7 if name == "DmlExecutionProvider" else 5)
    if name == TENSORRT or static:
        assert (counts["DequantizeLinear"], counts["MatMulNBits"]) == (products, table)
    else:
        assert (counts["DequantizeLinear"], counts["MatMulNBits"]) == (0, products + table)
    assert counts["GatherBlockQuantized"] == table
    assert counts["GroupQueryAttention"] == (4 if static else 2)
    loaded_by = "its runtime" if here else "onnx.checker, CPU provider"
    found |= {"provider": name, "precision": precision, "loaded_by": loaded_by}


@pytest.mark.parametrize("name", [name for name, provider in PROVIDERS.items() if INPUTS in provider.adapters])
def test_adapters_are_inputs_of_the_activations_type(checkpoints_of, in_root, found, name):
    checkpoint = checkpoints_of[name == TENSORRT]
    result = built(name, checkpoint, in_root)
    layout = result / "lora_inputs.json"
    adapter = random_adapter(checkpoint, in_root / "adapter", 8, ALL)
    path = converted(adapter, layout, in_root / "travel.onnx_adapter")
    dtype = files.read_json(layout)["dtype"]
    assert dtype == ("float32" if PROVIDERS[name].device == "cpu" else "float16")
    inputs = {each.name: each.type.tensor_type.elem_type for each in onnx.load(result / "model.onnx").graph.input}
    assert {kind for key, kind in inputs.items() if "lora" in key} == {onnx.TensorProto.DataType.Value(TYPES[dtype])}
    runtime = Runtime(on_cpu(result, in_root / "on_cpu"), {"travel": path}, threads=2)
    distances = {
        "bare": largest(runtime, None, checkpoint, None),
        "adapter": largest(runtime, "travel", checkpoint, adapter),
    }
    assert max(distances.values()) < (TOLERANCE if dtype == "float32" else HALF)
    found |= {"provider": name, "dtype": dtype, **distances}


@pytest.mark.parametrize("name", [name for name, provider in PROVIDERS.items() if INPUTS not in provider.adapters])
def test_an_npu_s_static_model_computes_the_same_bare_and_with_a_merged_adapter(tiny_quantized, in_root, found, name):
    adapter = random_adapter(tiny_quantized, in_root / "adapter", 8, ALL)
    distances = {}
    merged = requantized(tiny_quantized, adapter, in_root / "merged")
    for rung, given, checkpoint in (("bare", None, tiny_quantized), ("adapter", adapter, merged)):
        building = in_root / f"building_{rung}"
        building.mkdir()
        result = built(name, tiny_quantized, building, adapter=given)
        graph = onnx.load(result / "context.onnx").graph
        (hidden,) = [each for each in graph.input if "embed_tokens" in each.name]
        assert [size.dim_value for size in hidden.type.tensor_type.shape.dim] == [1, WINDOW, 64]
        part = files.read_json(result / "genai_config.json")["model"]["decoder"]["pipeline"][0]["context"]
        assert part["session_options"].items() >= graphs.NPU_SESSIONS[name].items()
        runtime = Runtime(on_cpu(result, building / "on_cpu"), {}, threads=2)
        distances[rung] = largest(runtime, None, checkpoint, None)
    assert max(distances.values()) < STATIC
    found |= {"provider": name, "dtype": "", **distances}


def test_a_merged_adapter_is_served_like_one_of_inputs(tiny_quantized, in_root):
    """From the convert stage to evaluation and the chat."""
    for path in ("models/quantized", "models/adapters/travel", "models/captured/cpu", "prepared/travel"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path("models/quantized").symlink_to(tiny_quantized)
    adapter = random_adapter(tiny_quantized, Path("models/adapters/travel"), 8, ALL, use_dora=True)
    target = TARGET.model_copy(update={"adapters": "merged"})
    params = RTN.model_copy(update={"targets": {"cpu": target}})
    with files.building(Path("models/captured/cpu")) as building:
        files.publish(graphs.build(olive_run.hf_model(paths.QUANTIZED), target, building), Path("models/captured/cpu"))
    for folder in (adapter, Path("models/captured/cpu")):
        files.write_json(folder / "base.json", {"base_sha256": "a"})
    template = "{prompt}\n{response}<|im_end|>"
    about = {"template": template, "response_schema": None, "generation": {}}
    files.write_json(Path("prepared/travel/adapter.json"), about)
    result = Path("models/converted/cpu/travel")
    with files.building(result) as building:
        files.publish(conversion.convert("cpu", "travel", params, building), result)
    assert not Path("models/captured/cpu/lora_inputs.json").exists()

    runtime = Runtime(Path("models/captured/cpu"), {"travel": result / "adapter.onnx_adapter"}, threads=2)
    for name, checkpoint in (
        (None, tiny_quantized),
        ("travel", requantized(tiny_quantized, adapter, in_root / "merged")),
    ):
        assert largest(runtime, name, checkpoint, None) < TOLERANCE

    package = Path("package")
    shutil.copytree("models/captured/cpu", package)
    shutil.copytree(result, package / "adapters/travel")
    files.write_json(package / "manifest.json", {"base_sha256": "a", "files": files.digests(package)})
    chat = Chat(package, 4)
    bare = "".join(chat.ask("hello"))
    chat.switch("travel")
    answered = "".join(chat.ask("hello"))
    # A stream keeps back the bytes of a letter that is not whole.
    assert runtime.answer("hello\n", "travel", packaged.generation({"max_new_tokens": 4}))[0].startswith(answered)
    assert answered != bare
    (package / "adapters/travel/model.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"adapters/travel/model\.onnx is damaged"):
        Chat(package, 4)


def test_every_provider_has_its_row_of_the_last_report():
    report = target_table.read()
    assert set(report["providers"]) == set(PROVIDERS)
    assert {name: tuple(one["precisions"]) for name, one in report["providers"].items()} == {
        name: provider.precisions for name, provider in PROVIDERS.items()
    }
    text = target_table.PAGE.read_text(encoding="utf-8")
    assert target_table.inserted(text, report) == text
    assert report["versions"] == tested_table.versions()


def largest(runtime: Runtime, name: str | None, checkpoint: Path, adapter: Path | None) -> float:
    """Return how far logits are from PyTorch's at most, on prompts shorter and longer than a window."""
    return max(distance(runtime.logits(ids, name), pytorch_logits(checkpoint, adapter, ids)) for ids in PROMPTS)
