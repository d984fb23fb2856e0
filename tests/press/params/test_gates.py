"""A gate is a comparison of metrics; what is none is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.core.errors import UserError
from press.params import gates

METRICS = {
    "travel": {"onnx": {"adapter": {"loss": 3.2}, "bare": {"loss": 4.0}}},
    "two-2go": {"onnx": {"adapter": {"loss": 2.0}, "bare": {"loss": 1.0}}, "ended": {"bare": 0.0}},
    "bytes": {"captured": 92_000_000},
    "tasks": {"MMLU": {"acc": {"bare": 0.25}}},
}


def judged(gate: str) -> gates.Result:
    (result,) = gates.judge([gate], METRICS, ["travel", "two-2go"])
    return result


@pytest.mark.parametrize(
    ("gate", "passed", "reason"),
    [
        ("travel.onnx.adapter.loss <= 0.9 * travel.onnx.bare.loss", True, "3.2 against 3.6"),
        ("two-2go.onnx.adapter.loss <= two-2go.onnx.bare.loss", False, "2 against 1, 1 too much"),
        ("bytes.captured < 92e6", False, "9.2e+07 against 9.2e+07, 0 too much"),
        ("bytes.captured <= 92.0e6", True, "9.2e+07 against 9.2e+07"),
        ("bytes.captured <= 92.0e+6", True, "9.2e+07 against 9.2e+07"),
        ("bytes.captured <= 9.E7", False, "9.2e+07 against 9e+07, 2e+06 too much"),
        ("tasks.MMLU.acc.bare >= 2.5E-1", True, "0.25 against 0.25"),
        ("-(bytes.captured - 1) / 2 > -1", False, "-4.6e+07 against -1, 4.6e+07 too little"),
        ("1 >= travel.onnx.bare.loss / 4 + 0.5", False, "1 against 1.5, 0.5 too little"),
        ("travel.valid.adapter >= 0.8", False, "there is no metric travel.valid.adapter"),
        ("1 / two-2go.ended.bare > 0", False, "it divides by zero"),
    ],
)
def test_a_gate_says_by_how_much(gate, passed, reason):
    assert judged(gate) == gates.Result(gate, passed, reason)


def test_a_gate_for_every_adapter_is_one_for_each():
    results = gates.judge(["{adapter}.onnx.adapter.loss < {adapter}.onnx.bare.loss"], METRICS, ["travel", "two-2go"])
    assert [(result.gate.split(".")[0], result.passed) for result in results] == [("travel", True), ("two-2go", False)]


@pytest.mark.parametrize(
    ("gate", "part"),
    [
        ("bytes.captured", "must be one comparison"),
        ("", "is not a comparison"),
        ("bytes.captured <=", "is not a comparison"),
        ("0 < bytes.captured < 1", "must be one comparison"),
        ("bytes.captured == 1", "must compare by"),
        ("1 < 2", "names no metric"),
        ("bytes.captured ** 2 < 1", "no 'bytes.captured ** 2'"),
        ("__import__('os').remove('x') < bytes.captured", "but no"),
        ("bytes.captured < True", "no 'True'"),
        ("captured < bytes.base", "no 'captured'"),
        ("bytes.captured < 'x'", "but no"),
        ("bytes.captured < 1e999", "has a number that is too large"),
        (f"bytes.captured < {'9' * 400}", "has a number that is too large"),
        # What the parser, or what reads its tree, would call itself too often for.
        (f"{'-' * 900}bytes.captured < 1", "has more than 200 parts: make several gates of it"),
        (f"bytes.captured{' + 1' * 200} < 1", "has more than 200 parts: make several gates of it"),
        (f"{'(' * 400}bytes.captured{')' * 400} < 1", "is not a comparison"),
        # What Python takes, and does not count.
        ("bytes.captured <= 1 # * 100", "no '#'"),
        ("(bytes.captured\n<= 1)", "no '\\n'"),
        ("bytes.captured <= 0x10", "no '0x10'"),
        ("bytes.captured <= 1_000", "no '1_000'"),
        ("bytes.captured <= metric_0", "no 'metric_0'"),
        ("not bytes.captured < 1", "no 'not'"),
    ],
)
def test_what_is_no_gate_is_refused(gate, part):
    with pytest.raises(UserError) as caught:
        gates.check(gate)
    assert part in str(caught.value)
    assert str(caught.value).startswith(repr(gate))


@pytest.mark.parametrize("text", ["a" * 100_000, "-" * 100_000, "1" * 100_000, "a." * 50_000, "1e" * 50_000])
def test_a_long_gate_is_refused_and_is_read_once(text):
    with pytest.raises(UserError) as caught:
        gates.check(text)
    assert str(caught.value) == (
        f"{text[:40]!r}... has {len(text)} characters, but a gate may have 1000: make several of it"
    )
    # From each place on to the end, this would be thousands of millions of characters.
    gates.METRIC.sub("", text)


@pytest.mark.parametrize(
    ("gate", "subject"),
    [
        ("hotel.onnx.adapter.loss <= 3", "hotel"),
        ("{adapter}.onnx.adapter.loss <= hotel.onnx.bare.loss", "hotel"),
        ("travels.onnx.adapter.loss <= 3", "travels"),
        ("cpu.package.bytes <= 1", "cpu"),
        ("bytes.adapters.hotel <= 1", "hotel"),
        ("speed.decode >= 1", "speed"),
        ("tasks.MMLU.acc.travel >= 0.3", "tasks"),
    ],
)
def test_a_gate_about_what_is_not_there_is_refused(gate, subject):
    with pytest.raises(
        UserError, match=f"is about '{subject}', but there are only the adapters travel, packing, and b"
    ):
        gates.check_subjects(gate, ["travel", "packing"])


def test_a_gate_may_be_about_all_that_is_measured():
    for gate in (
        "{adapter}.onnx.adapter.loss <= 0.9 * travel.onnx.bare.loss + 1e-3",
        "bytes.adapters.{adapter} + bytes.captured <= package.bytes",
        "general.onnx.bare.kl <= tasks.MMLU.acc.packing",
    ):
        gates.check_subjects(gate, ["travel", "packing"], [gates.TASKS])
    gates.check_subjects("speed.decode >= 1", ["travel"], ["speed"])


CASES = [
    {"input": name, "travel.onnx.bare.loss": bare, "travel.onnx.adapter.loss": adapter}
    for name, bare, adapter in (("a", 4, 4.1), ("b", 5, 6), ("c", 4, 3), ("d", 3, 3.5), ("it's e", 3, 5), ("f", 5, 5.5))
]
CASES += [{"input": "g", "two-2go.ended.bare": False}, {"input": "h", "two-2go.ended.bare": True}]


@pytest.mark.parametrize(
    ("gate", "inputs"),
    [
        # The worst first, and of those that fail by themselves only the first three.
        (
            "travel.onnx.adapter.loss <= travel.onnx.bare.loss - 2",
            "; on \"it's e\" (5 against 1), 'b' (6 against 3), 'd' (3.5 against 1) and 3 more",
        ),
        (
            "travel.onnx.adapter.loss <= travel.onnx.bare.loss - 0.9",
            "; on \"it's e\" (5 against 2.1), 'b' (6 against 4.1)",
        ),
        ("travel.onnx.adapter.loss <= 0.000001 * bytes.captured - 91", "; on 'b' (6 against 1), 'f' (5.5 against 1)"),
        ("two-2go.ended.bare >= 0.9", "; on 'g'"),
        # No input has both, and these have none.
        ("travel.onnx.adapter.loss < two-2go.ended.bare", ""),
        ("bytes.captured <= 1", ""),
        ("two-2go.onnx.adapter.loss <= 1", ""),
    ],
)
def test_a_failed_gate_names_the_inputs_that_fail_it(gate, inputs):
    (result,) = gates.judge([gate], METRICS, [], CASES)
    assert not result.passed
    _, _, named = result.reason.partition("; ")
    assert named.startswith(inputs.removeprefix("; ")) if inputs else not named


def test_a_passed_gate_names_none():
    (result,) = gates.judge(["travel.onnx.adapter.loss <= 3.5"], METRICS, [], CASES)
    assert (result.passed, result.reason) == (True, "3.2 against 3.5")


LEAVES = st.sampled_from(["bytes.captured", "travel.onnx.bare.loss", "2", "0.5", "1e3", "1.5e-3", "1.5E+3", "2."])
SIDES = st.recursive(
    LEAVES,
    lambda side: st.builds("({} {} {})".format, side, st.sampled_from("+-*"), side) | st.builds("-{}".format, side),
    max_leaves=6,
)


@given(SIDES, st.sampled_from(["<=", "<", ">=", ">"]))
def test_arithmetic_is_python_s(side, comparison):
    gate = f"{side} {comparison} bytes.captured"
    text = gate.replace("bytes.captured", "92_000_000").replace("travel.onnx.bare.loss", "4.0")
    assert judged(gate).passed is eval(text)
