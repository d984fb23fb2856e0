"""What does not go with an adapter's objective is named before anything runs."""

import pytest
from projects import ROOT

from press.core.errors import UserError
from press.params import checks, schema, settings

PARAMS = settings.load(ROOT / "params.yaml")


def adapter(objective: str, training: dict, **changes: object) -> schema.Adapter:
    given = PARAMS.adapter("travel")
    own = given.training.model_copy(update={"objective": objective, **training})
    return given.model_copy(update={"training": own, **changes})


def check(given: schema.Adapter) -> None:
    checks.check_objectives(PARAMS.model_copy(update={"adapters": {"travel": PARAMS.adapter("travel"), "tone": given}}))


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_the_defaults_go_with_each_objective(objective):
    check(adapter(objective, {}))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            adapter("sft", {}, format="preference"),
            "format is preference, but adapters.tone.training.objective is sft: choose dpo, or another format",
        ),
        (
            adapter("dpo", {}, format="messages"),
            "format is messages, but adapters.tone.training.objective is dpo, which learns from pairs of answers: "
            "choose preference or null",
        ),
        (
            adapter("dpo", {}, fields={"output": "answer"}),
            "fields names 'output', but adapters.tone.training.objective is dpo, and the format preference has only "
            "chosen, prompt, rejected, response, system, tools",
        ),
        (
            adapter("dpo", {"packing": True}),
            "training.packing is true, but adapters.tone.training.objective is dpo, which compares two answers to one "
            "prompt: choose false",
        ),
        (
            adapter("dpo", {"processes": 2}),
            "training.processes is 2, but adapters.tone.training.objective is dpo, which trains in one process: choose "
            "1",
        ),
        (
            adapter("dpo", {"response_only": False}),
            "training.response_only is false, but adapters.tone.training.objective is dpo, which compares answers "
            "alone: choose true",
        ),
    ],
)
def test_what_does_not_go_with_it_is_named(given, sentence):
    with pytest.raises(UserError) as caught:
        check(given)
    assert str(caught.value) == f"params.yaml: adapters.tone.{sentence}"


def test_fields_of_pairs_may_have_other_names():
    fields = {"prompt": "question", "chosen": "best", "rejected": "worst"}
    check(adapter("dpo", {}, fields=fields, format="preference"))
