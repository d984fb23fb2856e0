"""The ladder: what its rungs are called, what each step costs, and which inputs stand behind a figure."""

import csv
import re
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.core.errors import UserError
from press.data import jsonl
from press.data.examples import Example
from press.quality import ladder

VOCABULARY = 20
RUNGS = [
    ("travel.pytorch.base", "travel"),
    ("general.pytorch.base", "general"),
    ("travel.pytorch.quantized", "travel"),
    ("general.pytorch.quantized", "general"),
    ("travel.pytorch.adapter", "travel"),
    ("travel.general.pytorch.adapter", "general"),
    ("travel.pytorch.head", "travel"),
    ("general.pytorch.head", "general"),
    ("general.onnx.bare", "general"),
    ("travel.onnx.bare", "travel"),
    ("travel.onnx.adapter", "travel"),
    ("travel.general.onnx.adapter", "general"),
]


def built(folder: Path, rungs: list[tuple[str, str]] = RUNGS) -> ladder.Ladder:
    """A ladder of random logits: two answers and three rows of text."""
    rng = np.random.default_rng(0)
    lengths = {"travel": (5, 4), "general": (6, 6, 6)}
    texts = {
        text: [
            Example(prompt="", completion="", input_ids=rng.integers(0, VOCABULARY, size).tolist(), prompt_tokens=1)
            for size in sizes
        ]
        for text, sizes in lengths.items()
    }
    folder.mkdir()
    steps = ladder.Ladder(texts, folder)
    for name, text in rungs:
        # The first token is the prompt's: each other one is predicted by a row.
        steps.add(name, text, [rng.normal(size=(size - 1, VOCABULARY)).astype(np.float32) for size in lengths[text]])
    return steps


def test_an_adapter_that_always_gives_one_answer_is_seen(tmp_path):
    steps = built(tmp_path / "references")
    for example, right in zip(steps.texts["travel"], ("positive", "negative"), strict=True):
        example["completion"] = f'"{right}"<|im_end|>'
    about = {"template": "{prompt}\n{response}<|im_end|>", "response_schema": {"type": "string"}}
    steps.judge("travel.onnx.adapter", dict.fromkeys((0, 1), '"positive"'), about)
    score = steps.metrics()["travel"]["onnx"]["adapter"]
    assert (score["valid"], score["exact"], score["fields"]) == (1.0, 0.5, 0.5)
    first, second = (
        case for case in steps.cases({"travel": ["a", "b"], "general": ["c"] * 3}) if "travel" in case["text"]
    )
    assert (first["travel.onnx.adapter.exact"], second["travel.onnx.adapter.exact"]) == (True, False)


def test_metrics_are_nested_by_name_in_the_order_of_the_rungs(tmp_path):
    metrics = built(tmp_path / "references").metrics()
    assert list(metrics) == ["travel", "general"]
    assert list(metrics["travel"]["pytorch"]) == ["base", "quantized", "head", "adapter"]
    assert list(metrics["travel"]["general"]) == ["pytorch", "onnx"]
    assert set(metrics["travel"]["pytorch"]["base"]) == {"loss", "perplexity"}
    assert set(metrics["travel"]["general"]["onnx"]["adapter"]) == {"loss", "perplexity", "kl", "agreement"}
    assert set(metrics["travel"]["attribution"]) == {"weights", "lm_head", "activations", "adapter_conversion"}
    assert set(metrics["general"]["attribution"]) == {"weights", "lm_head", "activations"}


def scores(losses: list[float]) -> dict:
    base, quantized, head, bare, adapter, converted = ({"loss": loss} for loss in losses)
    return {
        "pytorch": {"base": base, "quantized": quantized, "head": head, "adapter": adapter},
        "onnx": {"bare": bare, "adapter": converted},
    }


@given(st.lists(st.decimals(0, 50, places=6).map(float), min_size=6, max_size=6))
def test_attribution_sums_to_the_total_difference(losses):
    base, quantized, _, bare, adapter, converted = losses
    costs = ladder.attribution(scores(losses))
    steps = costs["weights"] + costs["lm_head"] + costs["activations"]
    assert steps == pytest.approx(bare - base, abs=1e-5)
    in_onnx = costs["lm_head"] + costs["activations"] + costs["adapter_conversion"]
    assert in_onnx == pytest.approx(converted - adapter, abs=1e-5)
    assert costs["weights"] == pytest.approx(quantized - base, abs=1e-5)


def test_without_a_rung_its_steps_are_missing():
    some = scores([1, 2, 3, 4, 5, 6])
    without_onnx = {"pytorch": some["pytorch"]}
    assert ladder.attribution(without_onnx) == {"weights": 1, "lm_head": 1}
    del some["pytorch"]["head"]
    assert ladder.attribution(some) == {"weights": 1, "graph": 2, "adapter_conversion": -1}


def test_the_table_has_a_line_for_each_rung_in_order(tmp_path):
    steps = built(tmp_path / "references")
    metrics = steps.metrics()
    ladder.write_table(tmp_path / "ladder.csv", metrics, steps.texts)
    with (tmp_path / "ladder.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [*["travel"] * 6, *["general"] * 4, *["travel.general"] * 6]
    # dvc.yaml draws them, and reports that are in git have them.
    names = ["base", "quantized", "head", "onnx bare", "adapter", "onnx adapter"]
    assert [row["rung"] for row in rows] == [*names, *names[:4], *names]
    assert [row["loss"] for row in rows[6:10]] == [row["loss"] for row in rows[10:14]]
    assert float(rows[15]["kl"]) == metrics["travel"]["general"]["onnx"]["adapter"]["kl"]
    assert rows[0]["kl"] == ""
    assert float(rows[3]["kl"]) == metrics["travel"]["onnx"]["bare"]["kl"]
    assert float(rows[5]["loss"]) == metrics["travel"]["onnx"]["adapter"]["loss"]


def test_cases_carry_the_figures_of_each_input_and_what_follows_from_them(tmp_path):
    steps = built(tmp_path / "references")
    cases = steps.cases({"travel": ["one", "two\n" + 100 * "x"], "general": ["a", "b", "c"]})
    jsonl.write(tmp_path / "cases.jsonl", cases)
    read = ladder.read_cases(tmp_path / "cases.jsonl")
    assert [(case["text"], len(case["input"])) for case in read] == [
        ("travel", 3),
        ("travel", 80),
        *[("general", 1)] * 3,
    ]
    losses = [case["travel.onnx.bare.loss"] for case in read[:2]]
    # Of answers of four and three scored tokens.
    assert (4 * losses[0] + 3 * losses[1]) / 7 == pytest.approx(
        steps.metrics()["travel"]["onnx"]["bare"]["loss"], abs=1e-5
    )
    assert read[0]["travel.onnx.bare.perplexity"] == pytest.approx(np.exp(losses[0]))
    assert read[0]["travel.attribution.weights"] == pytest.approx(
        read[0]["travel.pytorch.quantized.loss"] - read[0]["travel.pytorch.base.loss"], abs=1e-5
    )
    assert "travel.general.onnx.adapter.kl" in read[2]


def test_of_many_inputs_those_with_the_largest_losses_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder, "KEPT", 2)
    steps = built(tmp_path / "references")
    kept = [case["input"] for case in steps.cases({"travel": ["one", "two"], "general": ["a", "b", "c"]})]
    scored = [of for text, of in steps.rungs.values() if text == "general"]
    largest = [max(of.losses[index].mean() for of in scored) for index in range(3)]
    assert kept == ["one", "two", *[name for index, name in enumerate("abc") if index != int(np.argmin(largest))]]


def test_a_full_disk_is_refused_before_anything_is_scored(tmp_path, monkeypatch):
    steps = built(tmp_path / "references", [])
    steps.check_disk(VOCABULARY)
    usage = namedtuple("usage", "total used free")
    # 22 scored tokens of 10**7 floats, and of 10**3.
    for vocabulary, free, sizes in ((10**7, 5 * 10**8, ("880.0 MB", "500.0 MB")), (10**3, 500, ("88.0 kB", "500 B"))):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(10**12, 0, free))
        taken = f"take {sizes[0]} of disk while evaluate runs, but only {sizes[1]} are free"
        with pytest.raises(UserError, match=re.escape(taken)):
            steps.check_disk(vocabulary)
