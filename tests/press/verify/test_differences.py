"""The first place where two builds part is named in the words of the format; damaged files by their bytes."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import AdapterFormat, OrtValue
from safetensors.torch import save_file

from press.verify import differences

WEIGHTS = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)


def changed(values: torch.Tensor, index: tuple[int, ...], to: float) -> torch.Tensor:
    copy = values.clone()
    copy[index] = to
    return copy


def difference(folder: Path, name: str, recorded: object, rebuilt: object, write) -> str | None:
    paths = []
    for where, content in (("recorded", recorded), ("rebuilt", rebuilt)):
        (folder / where).mkdir()
        paths.append(folder / where / name)
        write(paths[-1], content)
    assert differences.first_difference(paths[0], paths[0]) is None
    return differences.first_difference(*paths)


def write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")


def write_tensors(path: Path, content: dict) -> None:
    metadata = {"format": content.get("format", "pt")}
    save_file({name: value.clone() for name, value in content.items() if name != "format"}, path, metadata)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.uint8])
def test_a_tensor_is_named_with_its_index_and_both_values(tmp_path, kind):
    one, two = WEIGHTS.to(kind), changed(WEIGHTS, (1, 0, 3), 99).to(kind)
    found = difference(tmp_path, "m.safetensors", {"a": one, "b": one}, {"a": one, "b": two}, write_tensors)
    shown = ("15", "99") if kind in (torch.int32, torch.uint8) else ("15.0", "99.0")
    assert found in {f"tensor b at [1, 0, 3]: {shown[0]}, rebuilt {shown[1]}", "tensor b at [1, 0, 3]: 15, rebuilt 99"}


@pytest.mark.parametrize(
    ("rebuilt", "words"),
    [
        ({"a": WEIGHTS, "c": WEIGHTS}, "tensor b is only in the recorded file"),
        ({"a": WEIGHTS}, "tensor b is only in the recorded file"),
        ({"a": WEIGHTS, "b": WEIGHTS[0].clone()}, "tensor b is float32[2, 3, 4], rebuilt float32[3, 4]"),
        ({"a": WEIGHTS, "b": WEIGHTS.half()}, "tensor b is float32[2, 3, 4], rebuilt float16[2, 3, 4]"),
        ({"a": WEIGHTS, "b": WEIGHTS, "format": "np"}, "metadata.format is 'pt', rebuilt 'np'"),
        ({"a": WEIGHTS, "b": changed(WEIGHTS, (0, 0, 0), -0.0)}, "tensor b at [0, 0, 0]: 0.0, rebuilt -0.0"),
    ],
)
def test_what_else_may_differ_in_safetensors(tmp_path, rebuilt, words):
    assert difference(tmp_path, "m.safetensors", {"a": WEIGHTS, "b": WEIGHTS}, rebuilt, write_tensors) == words


@given(st.integers(0, 3 * 700 * 1000 - 1))
def test_any_element_of_a_large_array_is_found(place):
    one = np.zeros((3, 700, 1000), np.float16)
    two = one.copy()
    two.reshape(-1)[place] = 1
    assert differences._first_element(one, two) == np.unravel_index(place, one.shape)


def graph(folder: Path, content: dict) -> None:
    """Write a graph of two nodes, its weights beside it, as the pipeline does."""
    values = content.get("values", np.arange(512, dtype=np.float32).reshape(16, 32))
    weights = [numpy_helper.from_array(values, "weights"), numpy_helper.from_array(values + 1, "more")]
    scale = numpy_helper.from_array(np.array([content.get("scale", 2.0)], np.float32), "scale")
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["y"], name="first"),
        helper.make_node(content.get("op", "Mul"), ["y", "scale"], ["z"], name="second"),
    ]
    some = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None]) for name in ("x", "z")]
    model = helper.make_model(helper.make_graph(nodes, "g", some[:1], some[1:], [scale, *weights]))
    model.producer_name = content.get("producer", "press")
    folder.unlink(missing_ok=True)
    onnx.save(model, folder, save_as_external_data=True, location="model.onnx.data", size_threshold=1024)


@pytest.mark.parametrize(
    ("rebuilt", "words"),
    [
        ({"op": "Add"}, "node 1, second: op_type is 'Mul', rebuilt 'Add'"),
        ({"scale": 3.0}, "initializer 0, scale: raw_data is "),
        ({"producer": "other"}, "producer_name is 'press', rebuilt 'other'"),
    ],
)
def test_a_graph_is_compared_node_by_node(tmp_path, rebuilt, words):
    assert difference(tmp_path, "model.onnx", {}, rebuilt, graph).startswith(words)


def test_external_data_is_named_by_the_graph_beside_it(tmp_path):
    values = np.arange(512, dtype=np.float32).reshape(16, 32)
    values[3, 5] = 7
    assert difference(tmp_path, "model.onnx", {}, {"values": values}, graph) is None
    recorded, rebuilt = (tmp_path / name / "model.onnx.data" for name in ("recorded", "rebuilt"))
    assert differences.first_difference(recorded, rebuilt) == "tensor more at [3, 5]: 102.0, rebuilt 8.0"
    (rebuilt.parent / "model.onnx").unlink()
    (recorded.parent / "model.onnx").unlink()
    assert differences.first_difference(recorded, rebuilt).startswith("byte ")


def write_adapter(path: Path, content: dict[str, np.ndarray]) -> None:
    adapter = AdapterFormat()
    adapter.set_adapter_version(1)
    adapter.set_model_version(1)
    adapter.set_parameters({name: OrtValue.ortvalue_from_numpy(value) for name, value in content.items()})
    adapter.export_adapter(str(path))


def test_an_adapter_is_compared_by_its_parameters(tmp_path):
    one, two = {"a": np.ones((2, 3), np.float32)}, {"a": np.array([[1, 1, 1], [1, 2, 1]], np.float32)}
    found = difference(tmp_path, "adapter.onnx_adapter", one, two, write_adapter)
    assert found == "tensor a at [1, 1]: 1.0, rebuilt 2.0"


@pytest.mark.parametrize(
    ("recorded", "rebuilt", "words"),
    [
        ('{"a": {"b": [1, 2]}}', '{"a": {"b": [1, 3]}}', "a.b[1] is 2, rebuilt 3"),
        ('{"a": 1, "b": 2}', '{"a": 1}', "b is only in the recorded file"),
        ('{"a": 1}', '{"a": 1, "b": null}', "b is only in the rebuilt file"),
        ('{"a": [1]}', '{"a": [1, 2]}', "a[1] is only in the rebuilt file"),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', "the keys of the file have another order"),
        ('{"a": true}', '{"a": 1}', "a is True, rebuilt 1"),
        ("{}", "[]", "the value is {}, rebuilt []"),
        ('{"a": 1}', '{"a":1}', "byte 5"),
        ('{"a": 1}', '{"a": 1', "byte 7"),
    ],
)
def test_json_is_compared_key_by_key(tmp_path, recorded, rebuilt, words):
    assert difference(tmp_path, "a.json", recorded, rebuilt, write_text) == words


@pytest.mark.parametrize(
    ("name", "recorded", "rebuilt", "words"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": 2}\n', '{"a": 1}\n{"a": 3}\n', "line 2, a is 2, rebuilt 3"),
        ("a.jsonl", '{"a": 1}\n', '{"a": 1}\n{"a": 3}\n', "line 2 is missing, rebuilt '{\"a\": 3}\\n'"),
        ("a.yaml", "a: {b: 1}", "a: {b: 2}", "a.b is 1, rebuilt 2"),
        ("a.txt", "one\ntwo\n", "one\ntwo\r\n", "line 2 is 'two\\n', rebuilt 'two\\r\\n'"),
        ("a.tsv", "x" * 100, "y" * 100, f"line 1 is '{'x' * 56}..., rebuilt '{'y' * 56}..."),
    ],
)
def test_text_is_compared_line_by_line(tmp_path, name, recorded, rebuilt, words):
    assert difference(tmp_path, name, recorded, rebuilt, write_text) == words


@given(st.binary(max_size=40), st.binary(max_size=40), st.sampled_from(["safetensors", "onnx", "json", "yaml", "bin"]))
def test_whatever_the_bytes_there_is_an_answer_if_and_only_if_they_differ(tmp_path_factory, one, two, suffix):
    folder = tmp_path_factory.mktemp("bytes")
    recorded, rebuilt = folder / f"one.{suffix}", folder / f"two.{suffix}"
    recorded.write_bytes(one)
    rebuilt.write_bytes(two)
    assert (differences.first_difference(recorded, rebuilt) is None) == (one == two)


def test_a_difference_behind_the_first_chunk_is_found(tmp_path):
    zeros = bytes(differences.CHUNK + 10)
    found = difference(tmp_path, "a.bin", zeros, zeros[:-1] + b"\xff", Path.write_bytes)
    assert found == f"byte {differences.CHUNK + 9}"


def test_folders_are_compared_file_by_file(tmp_path):
    for name in ("recorded", "rebuilt"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub/a.json").write_text("1")
        (tmp_path / name / "b.json").write_text("1")
    folders = tmp_path / "recorded", tmp_path / "rebuilt"
    assert differences.first_difference(*folders) is None
    (tmp_path / "rebuilt/sub/a.json").write_text("2")
    assert differences.first_difference(*folders) == "sub/a.json: the value is 1, rebuilt 2"
    (tmp_path / "rebuilt/b.json").unlink()
    assert differences.first_difference(*folders) == "b.json: there is no rebuilt file"
    shutil.rmtree(tmp_path / "rebuilt")
    (tmp_path / "file").touch()
    assert (
        differences.first_difference(folders[0], tmp_path / "file") == "the recorded one is a folder, the other a file"
    )
    assert differences.first_difference(*folders) == "there is no rebuilt file"
