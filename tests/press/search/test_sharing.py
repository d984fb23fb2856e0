"""What trials have in common is told from their parameters, as far as both begin with it."""

import pytest
from parameters import ROOT

from press.search import sharing
from press.search.sharing import Step

STEPS = [
    Step("fetch", (), (("base",),)),
    Step("quantize", ("fetch",), (("quantize",), ("seed",))),
    Step("finetune@a", ("quantize",), (("adapters", "a", "lora"),)),
    Step("capture@cpu", ("quantize",), (("targets", "cpu"),)),
    Step("evaluate@cpu", ("capture@cpu", "finetune@a"), (("adapters",), ("quantize", "bits"))),
]
BITS, RANK, BLOCK = ("quantize", "bits"), ("adapters", "a", "lora", "rank"), ("targets", "cpu", "block_size")


def shared(**changes: object) -> list[str]:
    """Return the stages that a trial begins with, as another one does in which a value is another."""
    one = {BITS: 4, RANK: 8, BLOCK: 32}
    other = one | {leaf: changes[leaf[-1]] for leaf in one if leaf[-1] in changes}
    mine, its = (sharing.marks(STEPS, values) for values in (one, other))
    common = sharing.shared_beginning(mine, its)
    return [step.stage for step, mark in zip(STEPS, mine, strict=True) if mark in common]


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({}, ["fetch", "quantize", "finetune@a", "capture@cpu", "evaluate@cpu"]),
        ({"bits": 8}, ["fetch"]),
        # The graph is the same, too, but comes after what is not.
        ({"rank": 4}, ["fetch", "quantize"]),
        ({"block_size": 64}, ["fetch", "quantize", "finetune@a"]),
    ],
)
def test_trials_share_what_they_begin_with(changes, stages):
    assert shared(**changes) == stages


@pytest.mark.integration
def test_the_project_s_stages_read_the_parameters_of_their_own_adapter(monkeypatch):
    monkeypatch.chdir(ROOT)
    keys = {step.stage: set(step.keys) for step in sharing.steps(["evaluate@cpu"])}
    assert ("quantize",) in keys["quantize"]
    assert {("adapters", "travel", "lora"), ("adapters", "travel", "training")} <= keys["finetune@travel"]
    assert not [key for key in keys["finetune@travel"] if key[:2] == ("adapters", "packing")]
    assert ("adapters",) in keys["evaluate@cpu"]
