"""Olive's own passes before the quantizer and after the capture: what they leave, and what of it is refused."""

import shutil
from pathlib import Path

import onnx
import pytest
from parity import TARGET, converted, distance, pytorch_logits, random_adapter
from projects import ROOT

from press.core import files
from press.core.errors import UserError
from press.model import checkpoints, graph_parity, graphs, olive_run, parity, quantization
from press.model.runtime import Runtime
from press.params import schema, settings

pytestmark = pytest.mark.integration
PARAMS = settings.load(ROOT / "params.yaml").quantize
ROWS = PARAMS.calibration.model_copy(update={"data": str(ROOT / PARAMS.calibration.data), "rows": 2, "row_tokens": 64})
AWQ = PARAMS.model_copy(update={"calibration": ROWS})
QUAROT = {"type": "QuaRot", "rotate_mode": "random"}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = list(range(32, 122))


def passes(**places: list[dict]) -> schema.Passes:
    empty: dict[str, list] = {"before_quantize": [], "after_quantize": [], "after_capture": []}
    return schema.Passes.model_validate(empty | places)


def quantized(base: Path, folder: Path, **places: list[dict]) -> Path:
    folder.mkdir()
    return quantization.quantize(AWQ, base, folder, 0, others=passes(**places))


def surgery(name: str, **options: object) -> dict:
    return {"type": "GraphSurgeries", "surgeries": [{"surgeon": name, **options}]}


def captured(checkpoint: Path, folder: Path, *after: dict) -> Path:
    folder.mkdir(parents=True)
    given = passes(after_capture=list(after)).after_capture
    return graphs.build(olive_run.hf_model(checkpoint), TARGET, folder, after=given)


def test_a_rotation_before_awq_keeps_the_function_and_is_recorded_in_one_run(tiny_base, in_root, capsys):
    result = quantized(tiny_base, in_root / "rotated", before_quantize=[QUAROT])
    said = capsys.readouterr().out
    # Rotated in fp32, the base says what it said; its norms have no weights left, and its head is one of its own.
    assert float(said.partition("passes.before_quantize.0, QuaRot: ")[2].split()[0]) < 1e-5
    model = checkpoints.load(result)
    assert set(model.model.norm.weight.tolist()) == {1.0}
    assert model.config.quantization_config.bits == 4
    assert not model.config.tie_word_embeddings
    plain = quantized(tiny_base, in_root / "plain")
    expected, rotated, straight = (pytorch_logits(each, None, IDS) for each in (tiny_base, result, plain))
    assert 0 < parity.divergence(expected, rotated) < 4 * parity.divergence(expected, straight)
    olive_run.keep_config(in_root / "rotated", "quantize")
    kept = files.read_json(in_root / "reports/olive/quantize.json")
    assert [block["type"] for block in kept["passes"].values()] == ["QuaRot", "Awq"]
    assert kept["input_model"]["model_path"] == str(tiny_base)
    assert "before_quantize_0" not in str(kept["passes"]["quantize"])


def test_two_runs_give_the_same_bytes(tiny_base, in_root):
    first, second = (quantized(tiny_base, in_root / name, before_quantize=[QUAROT]) for name in ("first", "second"))
    assert files.digests(first) == files.digests(second)
    after = surgery("DeduplicateNodes")
    graphs_of = [captured(first, in_root / "graphs" / name, after) for name in ("first", "second")]
    assert files.digests(graphs_of[0]) == files.digests(graphs_of[1])


def test_a_pass_that_needs_data_gets_the_calibration_text(tiny_base, in_root):
    quantized(tiny_base, in_root / "clipped", before_quantize=[{"type": "AutoClip", "group_size": 32}])
    run = files.read_json(in_root / "clipped/run.json")
    assert run["passes"]["before_quantize_0"]["data_config"] == run["passes"]["quantize"]["data_config"]


def test_a_pass_that_breaks_the_weights_is_refused(tiny_base, in_root, monkeypatch):
    from olive.passes.pytorch.rotate import RotateBase

    rotation = RotateBase.get_orthogonal_matrix
    monkeypatch.setattr(RotateBase, "get_orthogonal_matrix", staticmethod(lambda *size: 2 * rotation(*size)))
    with pytest.raises(UserError, match=r"passes\.before_quantize\.0, QuaRot: it breaks the model, which is .* nats"):
        quantized(tiny_base, in_root / "broken", before_quantize=[QUAROT])


def test_a_pass_that_olive_cannot_run_is_named(tiny_base, in_root):
    with pytest.raises(UserError, match=r"passes\.after_quantize\.0, SparseGPT: Olive gave no model by "):
        quantized(tiny_base, in_root / "failed", after_quantize=[{"type": "SparseGPT", "sparsity": 0.5}])


def test_a_graph_after_a_pass_still_takes_adapters(tiny_quantized, in_root):
    after = ({"type": "OnnxPeepholeOptimizer", "onnxoptimizer_optimize": False}, surgery("DeduplicateNodes"))
    folder = captured(tiny_quantized, in_root / "graph", *after)
    adapter = random_adapter(tiny_quantized, in_root / "adapter", 4, ALL)
    runtime = Runtime(folder, {"a": converted(adapter, folder / "lora_inputs.json", in_root / "a.onnx_adapter")}, 2)
    for name in (None, "a"):
        expected = pytorch_logits(tiny_quantized, name and adapter, IDS)
        assert distance(runtime.logits(IDS, name), expected) < 2e-5
    run = files.read_json(in_root / "graph/run.json")
    assert [block["type"] for block in run["passes"].values()][-2:] == ["OnnxPeepholeOptimizer", "GraphSurgeries"]
    assert run["input_model"]["model_path"] == str(tiny_quantized)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (surgery("RemoveInitializerFromInputs"), "it breaks the inputs for adapters: the graph's model.layers.0"),
        (
            surgery("ZeroOutInput", node_name="/model/layers.1/post_attention_layernorm/SkipLayerNorm", input_idx=2),
            "it breaks the graph, which is",
        ),
        (surgery("NoSuchSurgeon"), "Olive gave no model by"),
    ],
)
def test_a_pass_that_breaks_the_graph_is_refused(tiny_quantized, in_root, broken, said):
    with pytest.raises(UserError) as caught:
        captured(tiny_quantized, in_root / "graph", broken)
    assert str(caught.value).startswith("params.yaml: passes.after_capture.0, GraphSurgeries: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("branch", ["layers.0/attn/qkv_proj", "layers.1/mlp/down_proj"])
def test_a_graph_that_is_the_same_but_with_an_adapter_is_refused(tiny_quantized, in_root, branch):
    before = captured(tiny_quantized, in_root / "graph")
    after = in_root / "after"
    shutil.copytree(before, after)
    graph_parity.check(before, after, runs=True)
    # Without an adapter, nothing is subtracted as nothing is added.
    proto = onnx.load(after / "model.onnx", load_external_data=False)
    (node,) = (node for node in proto.graph.node if branch in node.name and node.name.endswith("lora/Add"))
    node.op_type = "Sub"
    onnx.save(proto, after / "model.onnx")
    with pytest.raises(UserError, match=r"it breaks adapters: with one that changes .* and without 0"):
        graph_parity.check(before, after, runs=True)


def test_an_input_for_adapters_of_another_kind_is_refused(tiny_quantized, in_root):
    before = captured(tiny_quantized, in_root / "graph")
    after = in_root / "after"
    shutil.copytree(before, after)
    proto = onnx.load(after / "model.onnx", load_external_data=False)
    given = next(each for each in proto.graph.input if each.name.endswith("lora_A"))
    given.type.tensor_type.shape.dim[1].ClearField("dim_param")
    given.type.tensor_type.shape.dim[1].dim_value = 8
    onnx.save(proto, after / "model.onnx")
    with pytest.raises(UserError, match=r"the inputs for adapters: .*lora_A is FLOAT \[64, 8\], but was FLOAT"):
        graph_parity.check(before, after, runs=False)


def test_a_merged_target_s_graph_is_checked_bare(tiny_quantized, in_root):
    target = TARGET.model_copy(update={"adapters": "merged"})
    given = passes(after_capture=[surgery("DeduplicateNodes")]).after_capture
    (in_root / "graph").mkdir()
    folder = graphs.build(olive_run.hf_model(tiny_quantized), target, in_root / "graph", after=given)
    assert not (folder / "lora_inputs.json").exists()
    assert (folder / "genai_config.json").exists()
