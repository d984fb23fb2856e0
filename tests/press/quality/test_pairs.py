"""What an adapter that learned from pairs prefers: its rewards, against DPO's definition by plain sums."""

import csv
from pathlib import Path

import numpy as np
import pytest

from press.data.examples import Example
from press.params import gates
from press.quality import ladder

VOCABULARY, BETA, PAIRS = 20, 0.2, 9
RUNGS = ("pytorch.base", "pytorch.quantized", "pytorch.adapter", "onnx.bare", "onnx.adapter")


def log_probability(logits: np.ndarray, ids: list[int], given: int) -> float:
    rows = logits.astype(np.float64)
    rows = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
    return float(sum(rows[place - 1, ids[place]] for place in range(given, len(ids))))


@pytest.fixture
def scored(tmp_path: Path):
    """A ladder of random logits on pairs, with the margin of each pair by engine."""
    rng = np.random.default_rng(3)
    pairs = [
        Example(
            prompt="",
            completion="",
            input_ids=rng.integers(0, VOCABULARY, 4 + index % 3).tolist(),
            prompt_tokens=2,
            rejected="",
            rejected_ids=rng.integers(0, VOCABULARY, 7 - index % 3).tolist(),
        )
        for index in range(PAIRS)
    ]
    steps = ladder.Ladder({"tone": pairs}, tmp_path)
    sums: dict[str, list[np.ndarray]] = {}
    for rung in RUNGS:
        sides = [
            [rng.normal(size=(len(ids), VOCABULARY)).astype(np.float32) for ids in some]
            for some in ([pair["input_ids"] for pair in pairs], [pair["rejected_ids"] for pair in pairs])
        ]
        # Of two tokens of the prompt and the answer's, a row predicts each of the answer's.
        steps.add(f"tone.{rung}", "tone", [rows[1:-1] for rows in sides[0]])
        steps.add_rejected(f"tone.{rung}", [rows[1:-1] for rows in sides[1]])
        sums[rung] = [
            np.array([log_probability(logits, pair[key], 2) for logits, pair in zip(side, pairs, strict=True)])
            for side, key in zip(sides, ("input_ids", "rejected_ids"), strict=True)
        ]
    steps.prefer("tone", BETA)
    margins = {}
    for engine, (own, reference) in {
        "pytorch": ("pytorch.adapter", "pytorch.quantized"),
        "onnx": ("onnx.adapter", "onnx.bare"),
    }.items():
        chosen, rejected = (sums[own][side] - sums[reference][side] for side in (0, 1))
        margins[engine] = BETA * (chosen - rejected)
    return steps, margins


@pytest.mark.parametrize("engine", ["pytorch", "onnx"])
def test_rewards_are_relative_to_the_model_without_the_adapter(scored, engine):
    steps, margins = scored
    scores = steps.metrics()["tone"][engine]
    assert 0 < (margins[engine] > 0).mean() < 1
    assert scores["adapter"]["reward_accuracy"] == pytest.approx((margins[engine] > 0).mean(), abs=1e-6)
    assert scores["adapter"]["reward_margin"] == pytest.approx(margins[engine].mean(), abs=1e-5)
    assert not any("reward_accuracy" in score for name, score in scores.items() if name != "adapter")


def test_a_gate_names_the_pairs_that_fail_it(scored):
    steps, margins = scored
    cases = steps.cases({"tone": [f"pair {index}" for index in range(PAIRS)]})
    gate = "tone.onnx.adapter.reward_accuracy >= 0.99"
    (result,) = gates.judge([gate], steps.metrics(), ["tone"], cases)
    wrong = [index for index, margin in enumerate(margins["onnx"]) if margin <= 0]
    assert not result.passed
    assert f"'pair {wrong[0]}'" in result.reason
    (result,) = gates.judge([gate.replace("0.99", "0.01")], steps.metrics(), ["tone"], cases)
    assert result.passed


def test_the_ladder_has_columns_of_pairs_where_there_are_pairs(scored, tmp_path):
    steps, _ = scored
    metrics = steps.metrics()
    ladder.write_table(tmp_path / "ladder.csv", metrics, ["tone"])
    with (tmp_path / "ladder.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["rung"]: row for row in csv.DictReader(file)}
    assert rows["onnx adapter"]["reward_accuracy"] == str(metrics["tone"]["onnx"]["adapter"]["reward_accuracy"])
    assert rows["base"]["reward_margin"] == ""
    for engine in ("pytorch", "onnx"):
        metrics["tone"][engine]["adapter"] = {"loss": 1.0, "perplexity": 2.7}
    ladder.write_table(tmp_path / "ladder.csv", metrics, ["tone"])
    assert "reward" not in (tmp_path / "ladder.csv").read_text(encoding="utf-8")
