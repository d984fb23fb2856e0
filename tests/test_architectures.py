"""Every architecture that the pipeline takes, from a checkpoint to logits; docs/models.md has what this finds.

For a tiny random model of each: quantized by each algorithm, adapters on all linear modules of attention and MLP, one
of them trained by the pass, captured and converted; and the ONNX model's logits are PyTorch's, on prompts shorter and
longer than a window (16 tokens) and than the switch of a long rope (48).
"""

import re
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnx
import onnxruntime_genai as og
import pytest
import torch
from architectures import ARCHITECTURES, ROPES_AND_WINDOWS, TOKENIZER, random_model, save
from parity import TOLERANCE, captured_to, converted, distance, head, pytorch_logits, random_adapter
from projects import ROOT
from transformers import AutoConfig
from transformers.models.auto import modeling_auto

from bench import architecture_table, tested_table
from press.core import files
from press.data import jsonl, tokens
from press.model import architectures, checkpoints, packaged, quantization
from press.model.runtime import Runtime
from press.params import schema, settings
from press.training import finetuning

pytestmark = pytest.mark.integration
PARAMS = settings.load(ROOT / "params.yaml")
ALGORITHMS = ("awq", "rtn", "gptq", "kquant")
PROMPTS = (list(range(40, 52)), (list(range(32, 122)) * 2)[:100])
STATES = ("granitemoehybrid", "lfm2", "lfm2_moe", "qwen3_5_text")  # whose layers remember more than keys and values
UNREACHED = {"lfm2_moe": "model.layers.1.feed_forward.experts.5"}  # by the tokens of the calibration rows
MODELS = {
    name: options.get("model_type", name)
    for name, options in (ARCHITECTURES | ROPES_AND_WINDOWS).items()
    if options.get("model_type", name) in architectures.SUPPORTED
}


@pytest.fixture
def found(request: pytest.FixtureRequest) -> dict:
    """What a test measured; it is kept where `--architectures-report FOLDER` says."""
    result = {"test": request.node.name}
    yield result
    folder = request.config.getoption("--architectures-report")
    if folder:
        files.write_json(Path(folder) / f"{request.node.name.replace('/', '-')}.json", result)


def quantized(
    root: Path, name: str, algorithm: str, *, symmetric: bool = False, mixed: str = "none", **changes: object
) -> Path:
    """Build and quantize a model as the stages do; return the checkpoint's folder."""
    base, building = save(random_model(name, **changes), root / "base"), root / "quantizing"
    building.mkdir()
    rows = PARAMS.quantize.calibration.model_copy(
        update={"data": str(ROOT / PARAMS.quantize.calibration.data), "rows": 2, "row_tokens": 64}
    )
    precision = schema.MixedPrecision(method=mixed, share=0.25)
    some = {"algorithm": algorithm, "symmetric": symmetric, "mixed_precision": precision, "calibration": rows}
    params = PARAMS.quantize.model_copy(update=some)
    return quantization.quantize(params, base, building, 0)


def linear_modules(checkpoint: Path) -> list[str]:
    """Return the names of all linear modules of a checkpoint's layers."""
    return sorted(checkpoints.adaptable_modules(checkpoint))


def trained_adapter(root: Path, checkpoint: Path) -> Path:
    """Train an adapter of rank 4 on all linear modules for two large steps."""
    some = [tokens.example(TOKENIZER, f"question {index}\n", f"answer {index}<|im_end|>") for index in range(6)]
    folder, building = root / "prepared/tiny", root / "finetuning"
    folder.mkdir(parents=True)
    building.mkdir()
    jsonl.write(folder / "train.jsonl", some[:4])
    jsonl.write(folder / "heldout.jsonl", some[4:])
    adapter = PARAMS.adapter("travel")
    lora = adapter.lora.model_copy(update={"rank": 4, "target_modules": linear_modules(checkpoint)})
    steps = {"max_steps": 2, "warmup_steps": 0, "checkpoint_every": 2, "learning_rate": 0.1}
    adapter = adapter.model_copy(update={"lora": lora, "training": adapter.training.model_copy(update=steps)})
    return finetuning.finetune("tiny", adapter, 0, checkpoint, building, root / "checkpoints")


def largest_distance(runtime: Runtime, checkpoint: Path, adapters: dict[str | None, Path | None]) -> float:
    """Return how far the logits are from PyTorch's at most, over all prompts and adapters."""
    return max(
        distance(runtime.logits(ids, name), pytorch_logits(checkpoint, adapter, ids))
        for name, adapter in adapters.items()
        for ids in PROMPTS
    )


def test_every_supported_architecture_is_tested_and_in_the_table():
    assert set(MODELS.values()) == set(architectures.SUPPORTED)
    assert set(architecture_table.read()["architectures"]) == set(architectures.SUPPORTED)


def test_each_that_the_model_builder_and_transformers_know_is_in_the_table_or_refused_by_name():
    """What the builder calls models by is in its code alone; transformers says which model types these are."""
    code = Path(str(distribution("onnxruntime-genai").locate_file("onnxruntime_genai/models/builder.py"))).read_text()
    classes = {name.lower() for name in re.findall(r'architectures\[0\] == "(\w+)"', code)}
    assert classes >= {"llamaforcausallm", "gptossforcausallm", "phimoeforcausallm"}
    tables = [table for name, table in vars(modeling_auto).items() if name.endswith("_MAPPING_NAMES")]
    known = {model_type for table in tables for model_type, made in table.items() if str(made).lower() in classes}
    assert len(known) > 30
    known |= {AutoConfig.for_model(name).get_text_config().model_type for name in known}
    listed = [architectures.SUPPORTED, architectures.REFUSED, architectures.WITH_OTHER_PARTS, architectures.SAME]
    assert sorted(known - {name for each in listed for name in each}) == []


def test_the_page_has_the_table_of_the_last_report():
    text = architecture_table.PAGE.read_text(encoding="utf-8")
    assert architecture_table.inserted(text, architecture_table.read()) == text


def test_the_report_is_of_the_locked_versions():
    assert architecture_table.read()["versions"] == tested_table.versions()


@pytest.mark.parametrize("name", MODELS)
def test_bare_and_with_adapters_the_graph_computes_what_pytorch_does(in_root, found, name):
    checkpoint = quantized(in_root, name, "rtn")
    captured = captured_to(in_root, checkpoint)
    modules = linear_modules(checkpoint)
    adapters = {
        "rank4": trained_adapter(in_root, checkpoint),
        "rank16": random_adapter(checkpoint, in_root / "rank16", 16, modules),
    }
    layout = captured / "lora_inputs.json"
    paths = {key: converted(path, layout, in_root / f"{key}.onnx_adapter") for key, path in adapters.items()}
    runtime = Runtime(captured, paths, threads=2)
    bare, *others = (runtime.logits(PROMPTS[0], key) for key in (None, *adapters))
    assert all(distance(other, bare) > 100 * TOLERANCE for other in others)
    found |= {
        "model_type": MODELS[name],
        "algorithm": "rtn",
        "modules": modules,
        "bare": largest_distance(runtime, checkpoint, {None: None}),
        "adapters": largest_distance(runtime, checkpoint, adapters),
    }
    assert found["bare"] < TOLERANCE
    assert found["adapters"] < TOLERANCE


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [(name, algorithm) for name in architectures.SUPPORTED for algorithm in ALGORITHMS if algorithm != "rtn"],
)
def test_each_quantizer_s_checkpoint_comes_out_of_the_graph(in_root, found, name, algorithm, capsys):
    checkpoint = quantized(in_root, name, algorithm)
    is_said = f"such as {UNREACHED.get(name)}: these are rounded by their weights alone" in capsys.readouterr().out
    assert is_said == (name in UNREACHED and algorithm in ("awq", "gptq"))
    runtime = Runtime(captured_to(in_root, checkpoint), {}, threads=2)
    found |= {
        "model_type": name,
        "algorithm": algorithm,
        "bare": largest_distance(runtime, checkpoint, {None: None}),
    }
    assert found["bare"] < TOLERANCE


@pytest.mark.parametrize("name", ["llama", "phi3", "gemma3_text"])
def test_symmetric_codes_need_no_zero_points(in_root, name):
    checkpoint = quantized(in_root, name, "awq", symmetric=True)
    captured = captured_to(in_root, checkpoint)
    names = {tensor.name for tensor in onnx.load(captured / "model.onnx", load_external_data=False).graph.initializer}
    assert not [each for each in names if "proj" in each and "qzeros" in each]
    assert largest_distance(Runtime(captured, {}, threads=2), checkpoint, {None: None}) < TOLERANCE


@pytest.mark.parametrize("mixed", ["k_quant_mixed", "iqe"])
@pytest.mark.parametrize("name", ["llama", "phi3", "gemma3_text"])
def test_layers_of_4_and_of_8_bits_are_in_one_graph(in_root, name, mixed):
    checkpoint = quantized(in_root, name, "awq", mixed=mixed)
    captured = captured_to(in_root, checkpoint)
    adapter = random_adapter(checkpoint, in_root / "rank16", 16, linear_modules(checkpoint))
    path = converted(adapter, captured / "lora_inputs.json", in_root / "rank16.onnx_adapter")
    nodes = onnx.load(captured / "model.onnx", load_external_data=False).graph.node
    assert {node_bits(node) for node in nodes if "_proj" in node.name and node.op_type == "MatMulNBits"} == {4, 8}
    runtime = Runtime(captured, {"rank16": path}, threads=2)
    assert largest_distance(runtime, checkpoint, {None: None, "rank16": adapter}) < TOLERANCE


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 96**0.5), (torch.bfloat16, 9.8125)])
def test_gemma_s_embeddings_are_scaled_in_the_type_of_the_checkpoint(in_root, dtype, scale):
    checkpoint = quantized(in_root, "gemma3_text with a width that is no square", "rtn", dtype=dtype)
    graph = onnx.load(captured_to(in_root, checkpoint) / "model.onnx").graph
    (scaling,) = [node for node in graph.node if node.name == "/model/embed_tokens/Mul"]
    # A constant is called by its value.
    assert np.float32(scaling.input[1].rpartition("/")[2]) == np.float32(scale)


def node_bits(node: onnx.NodeProto) -> int:
    return next(attribute.i for attribute in node.attribute if attribute.name == "bits")


@pytest.mark.parametrize("name", STATES)
def test_what_a_layer_remembers_of_a_text_is_kept_from_one_piece_of_it_to_the_next(in_root, name):
    checkpoint = quantized(in_root, name, "rtn")
    model = og.Model(str(captured_to(in_root, checkpoint)))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=100)
    generator, ids = og.Generator(model, params), []
    for length in (12, 1, 1, 3, 30, 1):
        piece = PROMPTS[1][len(ids) : len(ids) + length]
        ids += piece
        generator.append_tokens(np.array([piece], dtype=np.int32))
        last = np.array(generator.get_output("logits"))[0, -1]
        assert distance(last, pytorch_logits(checkpoint, None, ids)[-1]) < TOLERANCE


@pytest.mark.parametrize("name", STATES)
def test_answers_given_together_are_those_given_one_by_one(in_root, name):
    """Of lengths that are all others: none of them may be padded."""
    model = captured_to(in_root, quantized(in_root, name, "rtn"))
    prompts, given = [f"go{' on' * index}" for index in range(4)], packaged.generation({"max_new_tokens": 8})
    one, several = Runtime(model, {}, threads=2), Runtime(model, {}, threads=2, batch=4)
    assert several.answers(prompts, None, given) == [one.answer(prompt, None, given) for prompt in prompts]


@pytest.mark.parametrize("name", architectures.SUPPORTED)
def test_a_tied_embedding_and_head_share_an_int8_table(in_root, found, name):
    checkpoint = quantized(in_root, name, "rtn", tie_word_embeddings=True)
    captured = captured_to(in_root, checkpoint, "int8")
    runtime = Runtime(captured, {}, threads=2)
    table = head(captured / "model.onnx", "int8")
    expected = pytorch_logits(checkpoint, None, PROMPTS[1], table)
    found |= {"model_type": name, "int8": distance(runtime.logits(PROMPTS[1], None), expected)}
    assert found["int8"] < TOLERANCE
