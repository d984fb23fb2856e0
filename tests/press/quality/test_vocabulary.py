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
