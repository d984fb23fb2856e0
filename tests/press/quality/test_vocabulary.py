"""Rungs, figures and steps have one name each, and refer to each other by it."""

import itertools

import pytest

from press.quality import vocabulary
from press.quality.vocabulary import FIGURES, RUNGS, SHARES, SIZES, STEPS


@pytest.mark.parametrize(
    "names",
    [
        [rung.key for rung in RUNGS],
        [rung.short for rung in RUNGS],
        [rung.label for rung in RUNGS],
        [figure.short for figure in FIGURES.values()],
        [figure.label for figure in FIGURES.values()],
        [step.label for step in STEPS.values()],
        list(SHARES.values()),
        list(SIZES.values()),
    ],
)
def test_no_two_have_the_same_name(names):
    assert names
    assert len(names) == len(set(names))


def test_the_steps_name_rungs():
    differences = [(step.cost, step.other or step.cost) for step in STEPS.values()]
    named = {key for pair in differences for key in itertools.chain(*pair)}
    assert named == {rung.key for rung in RUNGS}


def test_the_rungs_that_have_scores_come_in_their_order():
    loss = {"loss": 1.0}
    scores = {"onnx": {"adapter": loss, "bare": loss}, "pytorch": {"head": {}, "base": loss}, "attribution": {}}
    assert [(rung.key, score) for rung, score in vocabulary.scored(scores)] == [
        ("pytorch.base", loss),
        ("onnx.bare", loss),
        ("onnx.adapter", loss),
    ]


def test_sizes_are_those_that_the_metrics_have():
    metrics = {"bytes": {"captured": 3, "base": 9, "adapters": {"travel": 1}}, "package": {"bytes": 4}}
    assert list(vocabulary.sizes(metrics)) == [
        ("base checkpoint", 9),
        ("ONNX model", 3),
        ("adapter travel", 1),
        ("package", 4),
    ]
    assert list(vocabulary.sizes({"bytes": {"base": 9}})) == [("base checkpoint", 9)]


def test_the_general_text_s_ladder_ends_with_the_adapters_by_their_names():
    of = [{"loss": float(index)} for index in range(4)]
    metrics = {
        "general": {"pytorch": {"base": of[0]}, "onnx": {"bare": of[1]}},
        "travel": {"onnx": {"bare": of[1], "adapter": of[2]}, "general": {"onnx": {"adapter": of[3]}}},
    }
    found = {
        text: [(label, score) for _, label, score in vocabulary.ladder(metrics, text, ["travel"])]
        for text in ("general", "travel", "none")
    }
    assert found == {
        "general": [("PyTorch, base", of[0]), ("ONNX, bare", of[1]), ("ONNX, travel", of[3])],
        "travel": [("ONNX, bare", of[1]), ("ONNX, adapter", of[2])],
        "none": [],
    }
