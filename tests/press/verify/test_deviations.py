"""Builds of two classes of machine: what differs a little, what has no distance, and what must not differ."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from press.verify import deviations


def builds(folder: Path, name: str, write, *contents: object) -> tuple[Path, Path]:
    for where, content in zip(("recorded", "rebuilt"), contents, strict=True):
        (folder / where).mkdir()
        write(folder / where / name, content)
    return folder / "recorded", folder / "rebuilt"


def write_tensors(path: Path, content: dict) -> None:
    save_file(content, path)


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def test_floats_by_their_norm_and_codes_by_their_share(tmp_path):
    one = {"scale": np.array([3, 4], np.float32), "codes": np.arange(8, dtype=np.uint8), "same": np.ones(3, np.float16)}
    two = {**one, "scale": np.array([3, 4.5], np.float32), "codes": np.array([0, 1, 2, 3, 4, 5, 7, 8], np.uint8)}
    found = deviations.measure(*builds(tmp_path, "m.safetensors", write_tensors, one, two))
    assert found.values == (pytest.approx(0.1), "m.safetensors: scale")
    assert found.codes == (0.25, "m.safetensors: codes")
    assert found.structure == found.texts == []


@pytest.mark.parametrize(
    "other",
    [{}, {"a": np.ones(3, np.float32)}, {"a": np.ones(2, np.float16)}, {"a": np.ones(2, np.float32), "b": np.ones(1)}],
)
def test_another_tensor_is_another_structure(tmp_path, other):
    one = {"a": np.ones(2, np.float32)}
    found = deviations.measure(*builds(tmp_path, "m.safetensors", write_tensors, one, other))
    assert len(found.structure) == 1


@given(st.floats(-1e3, 1e3, width=32), st.floats(-1e3, 1e3, width=32))
def test_a_number_in_a_report_deviates_by_its_larger_value(tmp_path_factory, one, two):
    folder = tmp_path_factory.mktemp("numbers")
    found = deviations.measure(*builds(folder, "a.json", write_json, {"a": [1, one]}, {"a": [1, two]}))
    larger = max(abs(one), abs(two))
    assert found.figures == ((abs(one - two) / larger, "a.json.a[1]") if one != two else (0, found.figures[1]))
    assert found.structure == []


@pytest.mark.parametrize(
    ("one", "two", "texts", "structure"),
    [
        ({"a": "yes"}, {"a": "no"}, ["a.json.a"], []),
        ({"a": "0" * 64}, {"a": "f" * 64}, [], []),
        ({"a": "0" * 64}, {"a": "f"}, ["a.json.a"], []),
        ({"a": 1}, {"b": 1}, [], ["a.json"]),
        ({"a": [1]}, {"a": [1, 2]}, [], ["a.json.a"]),
        ({"a": True}, {"a": False}, [], ["a.json.a"]),
        ({"a": 1}, {"a": None}, [], ["a.json.a"]),
    ],
)
def test_words_have_no_distance_and_keys_must_agree(tmp_path, one, two, texts, structure):
    found = deviations.measure(*builds(tmp_path, "a.json", write_json, one, two))
    assert (found.texts, found.structure) == (texts, structure)


def test_prose_and_missing_files_are_listed(tmp_path):
    folders = builds(tmp_path, "README.md", Path.write_text, "loss 1", "loss 2")
    (folders[1] / "more.txt").touch()
    found = deviations.measure(*folders)
    assert (found.texts, found.structure) == (["README.md"], ["more.txt: only one build has it"])


def graph(path: Path, content: dict) -> None:
    scale = numpy_helper.from_array(np.array([content.get("scale", 2.0)], np.float32), "scale")
    node = helper.make_node(content.get("op", "Mul"), ["x", "scale"], ["y"])
    some = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    onnx.save(helper.make_model(helper.make_graph([node], "g", some[:1], some[1:], [scale])), path)


def test_a_graph_s_constants_may_deviate_and_its_nodes_may_not(tmp_path):
    (tmp_path / "a").mkdir()
    found = deviations.measure(*builds(tmp_path / "a", "model.onnx", graph, {}, {"scale": 3.0}))
    assert (found.values, found.structure) == ((0.5, "model.onnx: scale"), [])
    (tmp_path / "b").mkdir()
    found = deviations.measure(*builds(tmp_path / "b", "model.onnx", graph, {}, {"op": "Add"}))
    assert (found.values[0], found.structure) == (0, ["model.onnx: the graph"])


def test_a_deviation_is_said_by_its_largest_parts():
    found = deviations.Deviation((0.25, "m: a"), (0.5, "m: b"), (0.0, ""), ["answers.json[0]"], ["m: tensor c"])
    assert str(found) == (
        "not comparable: m: tensor c; a tensor of floats is off by 0.25 of m: a; codes that differ: 0.5 of m: b; "
        "1 texts differ"
    )
    assert str(deviations.Deviation()) == ""


def test_a_folder_in_a_file_s_place_is_another_structure(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").touch()
    assert deviations.measure(tmp_path / "a", tmp_path / "b").structure
