"""Parity: the captured graph of a tiny llama, bare and with adapters, against PyTorch + PEFT.

tests/test_architectures.py does the same for every architecture, and parity.py says how near is near enough.
"""

from pathlib import Path

import numpy as np
import pytest
from parity import TOLERANCE, captured_to, converted, distance, head, pytorch_logits, random_adapter

from press.core import files
from press.model.runtime import Runtime

pytestmark = pytest.mark.integration
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PROMPTS = ([65, 66, 67], list(range(32, 122)) * 2)


@pytest.fixture(scope="module")
def captured(tiny_quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captured")
    (folder / "passes").symlink_to(Path(__file__).parents[2] / "passes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return captured_to(folder, tiny_quantized)


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
    assert distance(runtime.logits(ids, name), expected) < TOLERANCE


def test_adapters_of_different_rank_take_turns_on_one_graph(runtime):
    ids = PROMPTS[0]
    first = {name: runtime.logits(ids, name) for name in (None, "rank4", "rank16")}
    again = {name: runtime.logits(ids, name) for name in ("rank16", None, "rank4")}
    for name, logits in first.items():
        np.testing.assert_array_equal(logits, again[name])
    assert distance(first["rank4"], first[None]) > 100 * TOLERANCE
    assert distance(first["rank4"], first["rank16"]) > 100 * TOLERANCE


def test_an_adapter_file_has_the_same_bytes_each_time(adapters, captured, tmp_path):
    layout = captured / "lora_inputs.json"
    digests = {files.sha256(converted(adapters["rank16"], layout, tmp_path / str(run))) for run in range(3)}
    assert len(digests) == 1


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_the_shared_table_is_all_that_a_precision_changes(tiny_quantized, in_root, precision):
    result = captured_to(in_root, tiny_quantized, precision)
    expected = pytorch_logits(tiny_quantized, None, PROMPTS[1], head(result / "model.onnx", precision))
    assert distance(Runtime(result, {}, threads=2).logits(PROMPTS[1], None), expected) < TOLERANCE
