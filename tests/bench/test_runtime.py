import json
import subprocess
import sys
from argparse import Namespace
from contextlib import nullcontext
from math import exp
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from projects import ROOT

from bench import memory
from bench.runtime import __main__ as runtime
from bench.runtime import contestants, graph, options, results
from bench.runtime.contestants import ADAPTER, BARE, LLAMA, READY, Contestant
from press.core import files
from press.core.errors import UserError

NAME = "/model/layers.0/mlp/down_proj/MatMul"


def model(width: int = 8, rows: int = 4) -> onnx.ModelProto:
    """Return a table of `rows` rows, looked up and multiplied by one projection."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [width, width], [float(i % 7) for i in range(width**2)])
    table = helper.make_tensor("table", TensorProto.FLOAT, [rows, width], [float(i) for i in range(rows * width)])
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "weight"], ["logits"], NAME),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "tokens"])
    cache = helper.make_tensor_value_info("past_key_values.0.key", TensorProto.FLOAT, ["batch", 3, "past", "size"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "tokens", width])
    body = helper.make_graph(nodes, "model", [ids, cache], [logits], [weight, table])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


@pytest.mark.integration
def test_stripping_the_branches_gives_the_graph_before_them():
    from passes import lora_inputs

    before = model()
    after = onnx.ModelProto.FromString(before.SerializeToString())
    lora_inputs.add_branches(after.graph, {"model.layers.0.mlp.down_proj": 8}, TensorProto.FLOAT)
    assert len(after.graph.node) == 5
    graph.strip_branches(after.graph)
    assert after == before


def test_a_token_reads_one_row_of_a_table_and_all_of_a_weight():
    proto = model(width=8, rows=4).graph
    assert graph.weight_bytes(proto) == 4 * (8 + 8 * 8)
    assert graph.cache_bytes(proto, {"num_key_value_heads": 3, "head_size": 64}, 10) == 4 * 3 * 64 * 10


def test_a_table_that_is_also_the_head_is_read_wholly():
    proto = model(width=8, rows=8)
    proto.graph.node[1].input[1] = "table"
    del proto.graph.initializer[0]
    ort.InferenceSession(proto.SerializeToString())
    assert graph.weight_bytes(proto.graph) == 4 * 8 * 8


def times(decode: list[float]) -> list[dict[str, float]]:
    return [{"ttft_s": 0.2, "prompt_s": 0.1, "decode_s": seconds} for seconds in decode]


def test_ratios_are_those_of_the_rounds():
    # A round in which the machine was busy hits both.
    measured = {READY: {16: times([1.0, 1.0, 9.0])}, LLAMA: {16: times([2.0, 2.0, 18.0])}}
    assert results.speed_ratio(measured, READY, LLAMA, 16) == 2
    assert results.speeds(measured[READY][16], 16, 64) == {
        "ttft_s": 0.2,
        "prompt_tokens_per_s": 160,
        "decode_tokens_per_s": 64,
    }


def test_targets():
    measured = {
        BARE: {16: times([1.00])},
        READY: {16: times([1.02])},
        ADAPTER: {16: times([1.30])},
        LLAMA: {16: times([1.60])},
    }
    read = {BARE: {16: 80}, ADAPTER: {16: 100}}
    found = results.targets(measured, read, {READY: [4.1, 4.3], LLAMA: [4.0, 4.2]}, {"load_s": 0.002, "switch_s": 1e-5})
    assert [target.met for target in found] == [True, True, False, False, False, True]
    assert found[2].limit == 0.8
    assert json.loads(json.dumps(found[0].json()))["met"] is True


def test_equal_is_what_the_rows_do_not_tell_apart():
    baseline = [3.0, 5.0, 4.0, 4.0]
    assert results.perplexity(baseline) == pytest.approx(exp(4))
    always_worse = [loss + 0.1 for loss in baseline]
    assert results.indistinguishable(always_worse, baseline) == pytest.approx(exp(4))
    # The differences are 0.2, -0.2, 0.2 and 0: their standard deviation is 0.1915, that of their mean half of it.
    now_and_then = [3.2, 4.8, 4.2, 4.0]
    assert results.indistinguishable(now_and_then, baseline) == pytest.approx(exp(4 + 0.1915), rel=1e-4)


def test_bandwidth_is_the_share_of_the_limit():
    figures = {READY: {"16": {"decode_tokens_per_s": 50.0}}}
    assert results.bandwidth(figures, {READY: {16: 100}}, 10_000.0) == {
        READY: {"16": {"bytes_per_token": 100, "fraction": 0.5}}
    }


@pytest.mark.integration
def test_a_contestant_that_dies_is_a_sentence():
    with pytest.raises(UserError, match="ended with code 3"):
        Contestant([sys.executable, "-c", "raise SystemExit(3)"], {})


@pytest.mark.integration
def test_what_a_contestants_library_prints_is_no_answer(tmp_path):
    script = tmp_path / "contestant.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom bench.runtime import worker\n"
        "def start(options):\n    print('library')\n    return {'load_s': 0.5}\n"
        "worker.serve(start, {'score': lambda request: {'loss': len(request['ids'])}})\n"
    )
    with Contestant([sys.executable, str(script)], {}) as contestant:
        assert contestant.load_s == 0.5
        assert contestant.loss([1, 2, 3]) == 3
        assert contestant.peak_bytes() > 1e6


@pytest.mark.integration
def test_the_command_line_says_what_it_does():
    command = [sys.executable, "-m", "bench.runtime", "--package", "nowhere"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 1
    assert result.stderr == "error: nowhere holds no model.onnx: name a built package with --package\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        *(
            (f"--{name} {value}", f"argument --{name}: '{value}' is no whole number from 1 upwards")
            for name in ("rounds", "rows", "tokens", "threads", "lengths")
            for value in ("0", "-1", "1.5", "many")
        ),
        ("--lengths 16 0", "argument --lengths: '0' is no whole number from 1 upwards"),
        ("--lengths", "argument --lengths: expected at least one argument"),
        *(
            (f"--minutes {value}", f"argument --minutes: '{value}' is no number from 0 upwards")
            for value in ("-1", "nan", "many")
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_on_the_command_line(words: str, message: str, capsys):
    with pytest.raises(SystemExit) as ended:
        options.parse("", words.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"python -m bench.runtime: error: {message}\n")


def test_what_can_be_measured_is_taken_from_the_command_line():
    line = "--rounds 1 --rows 1 --tokens 1 --threads 1 --lengths 1 2 --minutes 0.5"
    chosen = options.parse("", line.split())
    assert (chosen.rounds, chosen.rows, chosen.tokens, chosen.threads, chosen.lengths) == (1, 1, 1, 1, [1, 2])
    assert chosen.minutes == 0.5
    assert options.parse("", ["--minutes", "0"]).minutes == 0


class Answering:
    """A contestant that notes what it is asked, and dies before its answer number `lifetime`."""

    load_s = 0.5

    def __init__(self, lifetime: int = 1000) -> None:
        self.asked: list[str] = []
        self._lifetime = lifetime

    def generate(self, ids: list[int], tokens: int) -> dict:
        self.asked.append("generate")
        if len(self.asked) >= self._lifetime:
            raise UserError("it died")
        return times([1.0])[0]

    def loss(self, ids: list[int]) -> float:
        self.asked.append("loss")
        return 1.0

    def peak_bytes(self) -> int:
        return 1000


def chosen(**others: object) -> Namespace:
    return Namespace(lengths=[16], rounds=3, minutes=1, tokens=4, rows=2, threads=1, **others)


@pytest.mark.parametrize(("lifetime", "rounds"), [(6, 2), (4, 1)])
def test_rounds_before_a_contestant_dies_are_kept(lifetime: int, rounds: int, capsys):
    contestant = Answering(lifetime)
    measured = runtime.race({READY: lambda: nullcontext(contestant)}, [1] * 16, None, chosen())
    assert len(measured.processes[READY]) == len(measured.times[READY][16]) == rounds
    assert "it died: these are the rounds so far" in capsys.readouterr().err


def test_a_contestant_that_dies_in_the_first_round_ends_it():
    contestant = Answering(lifetime=2)
    with pytest.raises(UserError, match="it died"):
        runtime.race({READY: lambda: nullcontext(contestant)}, [1] * 16, None, chosen())


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with its weights in a file beside the graph, and an adapter."""
    folder = tmp_path / "package"
    adapter = folder / "adapters" / "travel"
    adapter.mkdir(parents=True)
    proto = model()
    for tensor in proto.graph.initializer:
        # Only raw bytes can lie outside.
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    onnx.save(proto, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    files.write_json(folder / "genai_config.json", {"model": {"decoder": {"num_key_value_heads": 3, "head_size": 4}}})
    (adapter / "adapter.onnx_adapter").write_bytes(b"adapter")
    files.write_json(adapter / "adapter.json", {"dtype": "float32", "inputs": {}})
    return folder


def test_the_results_name_what_was_timed_and_rounds_come_last(package: Path, tmp_path: Path, monkeypatch):
    contestant = Answering()
    ways = {name: lambda: nullcontext(contestant) for name in (BARE, READY)}
    monkeypatch.setattr(runtime, "text_rows", lambda *_: torch.ones(2, 256, dtype=torch.int64))
    monkeypatch.setattr(runtime.bandwidth, "read_bytes_per_s", lambda _: 1e9)
    monkeypatch.setattr(runtime, "starts", lambda *_: ways)
    found, _ = runtime.measure(chosen(package=package, base=tmp_path, without=[LLAMA], gguf=None), tmp_path)
    digests = files.digests(package)
    names = ("genai_config.json", "model.onnx", "weights.bin", "adapters/travel/adapter.onnx_adapter")
    assert found["package"] == {"folder": str(package), "sha256": {name: digests[name] for name in names}}
    # What fails while the perplexity is measured must not cost the rounds.
    assert contestant.asked == ["loss"] * 4 + ["generate"] * 12


def test_a_system_that_does_not_tell_another_process_s_memory_leaves_it_open(monkeypatch, tmp_path):
    assert memory.peak_bytes() > 1e7
    monkeypatch.setattr(contestants, "PROCESSES", tmp_path)
    monkeypatch.setattr(Answering, "peak_bytes", Contestant.peak_bytes)
    answering = Answering()
    answering._process = Namespace(pid=1)
    measured = runtime.race({READY: lambda: nullcontext(answering)}, [1] * 16, None, chosen())
    figures = results.medians_of(measured.processes[READY]) | {"perplexity": 2.0}
    assert "| – | 2.00 |" in results._processes({"contestants": {READY: figures}})
