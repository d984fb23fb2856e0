"""A search is checked as a whole before anything runs, and each mistake gives one sentence."""

import pytest

from press.core.errors import UserError
from press.params import preset
from press.params import settings as params
from press.search import settings, space

RANK = "adapters.travel.lora.rank"
EVERY_RATE = "adapters.{adapter}.training.learning_rate"
METHOD = "quantize.mixed_precision.method"
MIXED = {"method": "k_quant_mixed", "share": 0.25}


def test_the_project_s_own_search_is_valid_and_begins_with_its_parameters():
    spec = settings.load()
    assert space.current(spec.dimensions, spec.params.model_dump())


def test_no_stage_s_parameters_have_the_search(load):
    load()
    assert "search" not in params.load().model_dump()


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"target": "phone"}, "search.target is 'phone', but must be one of cpu"),
        ({"objective": "package.bytes"}, "must begin with minimize or maximize"),
        ({"objective": "minimize package.bytes <= 3"}, "must be minimize and an expression"),
        ({"objective": []}, "search.objective is empty"),
        ({"constraints": ["package.bytes"]}, "search.constraints: 'package.bytes' must be one comparison"),
        ({"front": ["maximize"]}, "search.front: 'maximize' must be maximize and an expression"),
        (
            {"objective": "minimize {adapter}.onnx.adapter.loss"},
            "search.objective: 'minimize {adapter}.onnx.adapter.loss'",
        ),
        ({"front": ["maximize {adapter}.ended.adapter"]}, "must be one figure, but {adapter} stands for each adapter"),
        ({"gates": ["package.bytes"]}, "params.yaml: gates.own.gate-00: 'package.bytes' must be one comparison"),
        ({"trials": 0}, "search.trials is 0, but must be at least 1"),
        ({"budget": 3}, "search.budget is not a known key, only target"),
        ({"workers": 2, "front": ["maximize speed.decode"]}, "search.workers is 2, but must be 1 where speed counts"),
        ({"space": {}}, "search.space is empty"),
        ({"space": {"quantize.groupsize": [32]}}, "quantize has no groupsize, only algorithm, bits, group_size"),
        ({"space": {"seed.more": [1]}}, "seed has no more, only a value"),
        ({"space": {"quantize": ["awq"]}}, "quantize, which is a block: name one of algorithm"),
        ({"space": {"quantize.group_size": [32, 48]}}, "quantize.group_size is 48, but must be 16, 32, 64"),
        (
            {"space": {"quantize.bits": {"low": 4, "high": 8}}},
            "search.space.quantize.bits: quantize.bits is 5, but must be",
        ),
        (
            {"space": {"quantize.bits": [8]}, "quantize": {"mixed_precision": MIXED}},
            "search.space.quantize.bits: quantize.mixed_precision.method is k_quant_mixed",
        ),
        (
            {"space": {"passes.before_quantize": [[], [{"type": "Quarot"}]]}},
            "search.space.passes.before_quantize: params.yaml: passes.before_quantize.0.type is 'Quarot', which Olive",
        ),
        ({"space": {"quantize.group_size": []}}, "must be a list of values or a block"),
        ({"space": {"quantize.group_size": [32, 32]}}, "search.space.quantize.group_size has a value twice"),
        ({"space": {RANK: {"low": 0, "high": 4}}}, "lora.rank is 0, but must be at least 1"),
        ({"space": {RANK: {"low": 8, "high": 4}}}, "low is 8, but must be at most high, 4"),
        ({"space": {RANK: {"low": 8, "hi": 9}}}, "hi is not a known key, only low, high, log and step"),
        ({"space": {RANK: {"low": 8}}}, "high must be a number"),
        ({"space": {RANK: {"low": 1, "high": 4, "step": 0.5}}}, "step must be an integer above 0"),
        ({"space": {EVERY_RATE: {"low": "0.1", "high": 1.0}}}, "low must be a number: write it without quotes"),
        ({"space": {EVERY_RATE: {"low": 0, "high": 1.0, "log": True}}}, "log needs a low above 0"),
        (
            {"space": {EVERY_RATE.format(adapter="travel"): [0.1], EVERY_RATE: [0.1]}},
            "travel.training.learning_rate twice",
        ),
    ],
)
def test_a_mistake_is_one_sentence(load, changes, part):
    with pytest.raises(UserError) as caught:
        load(**changes)
    assert part in str(caught.value)
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)


def test_gates_are_constraints_and_speed_is_measured_if_it_is_named(load):
    assert load().constraints == ["travel.onnx.adapter.loss <= 3"]
    assert not load().measures_speed
    assert load(constraints=["speed.decode >= 20"]).measures_speed


def test_no_adapter_may_hide_the_search_s_own_metrics(load):
    adapters = {"speed": load().params.model_dump()["adapters"]["travel"]}
    assert not load(adapters=adapters).measures_speed
    with pytest.raises(UserError, match="adapters has 'speed', whose metrics would be taken for the search's own"):
        load(adapters=adapters, front=["maximize speed.decode"])


def test_a_key_for_every_adapter_sets_all_to_one_value(load):
    spec = load(space={EVERY_RATE: {"low": 1.0e-4, "high": 1, "log": True}})
    (dimension,) = spec.dimensions
    assert dimension.value(0.000123456) == 0.0001235
    assert dimension.value(1.0e-4 * 1.00001) == 1.0e-4
    blocks = space.changes(spec.dimensions, {EVERY_RATE: 0.5})["adapters"]
    assert blocks == {name: {"training": {"learning_rate": 0.5}} for name in ("packing", "travel")}


def test_a_value_may_need_another_one_of_the_space(load):
    some = {"quantize.bits": [4, 8], METHOD: ["none", "k_quant_mixed"]}
    spec = load(space=some, quantize={"mixed_precision": MIXED})
    assert space.current(spec.dimensions, spec.params.model_dump()) == {"quantize.bits": 4, METHOD: "k_quant_mixed"}


@pytest.mark.parametrize(("high", "checked"), [(1003, 1000), (1004, 2)])
def test_whole_numbers_are_all_checked_unless_they_are_many(load, high, checked):
    (dimension,) = load(space={RANK: {"low": 4, "high": high}}).dimensions
    assert len(dimension.checked()) == checked


@pytest.mark.integration
def test_passes_are_values(load):
    rotated = [{"type": "QuaRot", "rotate_mode": "random"}]
    spec = load(space={"passes.before_quantize": [[], rotated]})
    (dimension,) = spec.dimensions
    assert space.current(spec.dimensions, spec.params.model_dump()) == {"passes.before_quantize": "[]"}
    chosen = dimension.value('[{"rotate_mode": "random", "type": "QuaRot"}]')
    assert space.changes(spec.dimensions, {dimension.key: chosen}) == {"passes": {"before_quantize": rotated}}
    assert preset.edited("passes: {}\n", {"passes": {"before_quantize": rotated}}).startswith("passes:")


def test_lists_and_null_may_be_values(load):
    spec = load(space={"quantize.awq.clip_modules": [None, ["v_proj"], ["v_proj", "o_proj"]]})
    (dimension,) = spec.dimensions
    assert [dimension.value(each) for each in dimension.distribution.choices] == list(dimension.choices)
    assert space.size(spec.dimensions) == 3


@pytest.mark.parametrize(
    ("some", "current", "size"),
    [
        ({RANK: {"low": 4, "high": 32, "step": 4}}, {RANK: 16}, 8),
        ({RANK: {"low": 5, "high": 32, "step": 4}}, None, 7),
        ({RANK: [4, 8]}, None, 2),
        ({EVERY_RATE: {"low": 0.001, "high": 0.01}}, {EVERY_RATE: 0.001}, float("inf")),
    ],
)
def test_what_params_yaml_has_now_is_a_trial_if_the_space_has_it(load, some, current, size):
    spec = load(space=some)
    assert space.current(spec.dimensions, spec.params.model_dump()) == current
    assert space.size(spec.dimensions) == size
