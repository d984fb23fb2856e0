"""The Pareto front, and by how much constraints are missed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.core.errors import UserError
from press.params import gates
from press.search import objectives
from press.search.objectives import Objective

METRICS = {"travel": {"onnx": {"adapter": {"loss": 3.0}}}, "package": {"bytes": 100}}
COSTS = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=20)


def beats(one: tuple, two: tuple) -> bool:
    return all(a <= b for a, b in zip(one, two, strict=True)) and one != two


@given(COSTS)
def test_the_front_is_what_nothing_beats_and_beats_all_else(costs):
    front = objectives.front(costs)
    points = [costs[index] for index in front]
    assert len(set(points)) == len(points)
    assert not any(beats(one, two) for one in costs for two in points)
    assert all(point in points or any(beats(one, point) for one in points) for point in costs)


@given(COSTS.filter(bool))
def test_the_best_lies_on_the_front(costs):
    assert objectives.best(costs, lambda cost: cost) in [costs[index] for index in objectives.front(costs)]


def test_an_objective_is_an_expression_with_a_direction():
    objective = Objective.parse("maximize package.bytes / 10 - travel.onnx.adapter.loss")
    assert objective.value(METRICS) == 7.0
    assert objective.cost(7.0) == -7.0
    with pytest.raises(UserError, match=r"there is no metric speed\.decode, only travel\.onnx\.adapter\.loss, package"):
        Objective.parse("maximize speed.decode").value(METRICS)


@pytest.mark.parametrize(
    ("gate", "violation"),
    [
        ("package.bytes <= 80", 0.2),
        ("package.bytes <= 100", 0.0),
        ("package.bytes < 100", 1e-9),
        ("package.bytes >= 50", -0.5),
        ("{adapter}.onnx.adapter.loss > 4", 0.25),
        ("1 / (package.bytes - 100) < 4", 1.0),
    ],
)
def test_a_constraint_is_missed_by_a_share_of_its_larger_side(gate, violation):
    (found,) = objectives.violations([gate], METRICS, ["travel"]).values()
    assert found == pytest.approx(violation)
    assert (found <= 0) is gates.judge([gate], METRICS, ["travel"])[0].passed


def test_a_constraint_on_what_is_not_there_is_a_mistake():
    with pytest.raises(
        UserError, match=r"'travel\.valid\.adapter > 4': there is no metric travel\.valid\.adapter, only"
    ):
        objectives.violations(["{adapter}.valid.adapter > 4"], METRICS, ["travel"])
