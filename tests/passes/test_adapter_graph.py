"""Parity: the captured graph, bare and with adapters, against PyTorch + PEFT in fp32 on the dequantized weights.

The graph is captured with `accuracy_level: 1` (fp32 activations) and an fp32 embedding and head, so that both
sides compute the same function from the same int4 codes; what is left is the order of fp32 additions. Logits
are of size ~1 to 10; with some hundred additions of such terms a chain differs by about 1e-5. TOLERANCE
allows ten times that, and a wrong or missing branch, scale or head changes logits by more than 0.1.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from passes import adapter_file
from press import checkpoints, files, settings
from press.runtime import Runtime
from stages import capture

TOLERANCE = 1e-4
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PROMPTS = ([65, 66, 67], list(range(32, 122)) * 2)
TARGET = settings.Target(
    device="cpu", provider="CPUExecutionProvider", precision="float", block_size=32, accuracy_level=1
)


@pytest.fixture(scope="module")
def captured(tiny_quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captured")
    (folder / "passes").symlink_to(Path(__file__).parents[2] / "passes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        building = folder / "building"
        building.mkdir()
        return capture.capture(TARGET, tiny_quantized, building)


def random_adapter(quantized: Path, folder: Path, rank: int, modules: list[str], **options) -> Path:
    """An adapter whose A and B are both random: a fresh one would have B = 0 and change nothing."""
    torch.manual_seed(rank)
    model = checkpoints.dequantize(checkpoints.load(quantized))
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=modules, task_type="CAUSAL_LM", **options)
    peft = get_peft_model(model, config)
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    peft.save_pretrained(folder, save_embedding_layers=False)
    return folder


def converted(adapter: Path, layout: Path, target: Path) -> Path:
    tensors = adapter_file.graph_inputs(
        LoraConfig.from_pretrained(adapter),
        adapter_file.load_file(adapter / "adapter_model.safetensors"),
        files.read_json(layout),
    )
    adapter_file.write(tensors, target)
    return target


def pytorch_logits(quantized: Path, adapter: Path | None, ids: list[int]) -> np.ndarray:
    model = checkpoints.dequantize(checkpoints.load(quantized))
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).eval()
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0].float().numpy()


@pytest.fixture(scope="module")
def adapters(tiny_quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "rank4": random_adapter(tiny_quantized, folder / "rank4", 4, ALL),
        "rank16": random_adapter(tiny_quantized, folder / "rank16", 16, ALL),
        "some": random_adapter(tiny_quantized, folder / "some", 8, ["q_proj", "v_proj", "down_proj"]),
        "rslora": random_adapter(tiny_quantized, folder / "rslora", 8, ALL, use_rslora=True),
    }


@pytest.fixture(scope="module")
def runtime(captured: Path, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    folder = tmp_path_factory.mktemp("files")
    paths = {
        name: converted(path, captured / "lora_inputs.json", folder / f"{name}.onnx_adapter")
        for name, path in adapters.items()
    }
    return Runtime(captured, paths, threads=2)


@pytest.mark.parametrize("ids", PROMPTS, ids=["short", "long"])
@pytest.mark.parametrize("name", [None, "rank4", "rank16", "some", "rslora"])
def test_the_graph_computes_what_pytorch_and_peft_compute(runtime, tiny_quantized, adapters, name, ids):
    expected = pytorch_logits(tiny_quantized, name and adapters[name], ids)
    assert np.abs(runtime.logits(ids, name) - expected).max() < TOLERANCE


def test_adapters_of_different_rank_take_turns_on_one_graph(runtime):
    ids = PROMPTS[0]
    first = {name: runtime.logits(ids, name) for name in (None, "rank4", "rank16")}
    again = {name: runtime.logits(ids, name) for name in ("rank16", None, "rank4")}
    for name, logits in first.items():
        np.testing.assert_array_equal(logits, again[name])
    assert np.abs(first["rank4"] - first[None]).max() > 100 * TOLERANCE
    assert np.abs(first["rank4"] - first["rank16"]).max() > 100 * TOLERANCE


def test_an_adapter_file_has_the_same_bytes_each_time(adapters, captured, tmp_path):
    layout = captured / "lora_inputs.json"
    digests = {files.sha256(converted(adapters["rank16"], layout, tmp_path / str(run))) for run in range(3)}
    assert len(digests) == 1


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_the_shared_table_is_all_that_a_precision_changes(tiny_quantized, in_root, precision):
    building = in_root / "building"
    building.mkdir()
    result = capture.capture(TARGET.model_copy(update={"precision": precision}), tiny_quantized, building)
    model = checkpoints.dequantize(checkpoints.load(tiny_quantized))
    table = torch.from_numpy(shared_table(result / "model.onnx", precision))
    model.get_input_embeddings().weight.data = table
    model.get_output_embeddings().weight.data = table
    ids = PROMPTS[1]
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([ids])).logits[0].numpy()
    assert np.abs(Runtime(result, {}, threads=2).logits(ids, None) - expected).max() < TOLERANCE


def shared_table(path: Path, precision: str) -> np.ndarray:
    """Dequantize the head: symmetric around the middle code, one scale a block; int4 two a byte, low one first."""
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    if precision == "int8":
        codes, scales = tensors["lm_head.weight_Q8"].astype(np.float32) - 128, tensors["lm_head.weight_scales"]
    else:
        packed, scales = tensors["lm_head.MatMul.weight_Q4"], tensors["lm_head.MatMul.weight_scales"]
        codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1).astype(np.float32) - 8
    return (codes * scales.reshape(*codes.shape[:2], 1)).reshape(codes.shape[0], -1)
