"""A study goes on where it was stopped, and tries nothing twice."""

from pathlib import Path

from press.search import running
from press.search.study import Study, Ticket

RANK = "adapters.travel.lora.rank"
STUDY = Path("search/study.db")


def metrics(values: dict) -> dict:
    """A model that is smaller and worse, the wider its groups and the lower its rank."""
    loss = 2 + values["quantize.group_size"] / 64 + 4 / values[RANK]
    return {
        "travel": {"onnx": {"adapter": {"loss": loss}}},
        "package": {"bytes": 100 - values["quantize.group_size"] + values[RANK]},
    }


def end(study: Study, ticket: Ticket) -> tuple:
    trial = study.fail(ticket, "too wide") if ticket.values[RANK] > 30 else study.finish(ticket, metrics(ticket.values))
    return trial.name, trial.values


def run(spec, count: int, state: str = "state") -> list[tuple]:
    """Run some trials, from a new process as it were."""
    study = Study(STUDY, spec, state)
    study.begin(spec.params.model_dump())
    study.resume()
    return [end(study, study.ask(set(), [])) for _ in range(count)]


def test_what_was_stopped_goes_on_as_if_it_had_not_been(load):
    spec = load()
    expected = run(spec, 8)
    STUDY.unlink()
    some = run(spec, 4)
    study = Study(STUDY, spec, "state")
    stopped = study.ask(set(), [])
    assert (stopped.name, stopped.values) == expected[4]
    assert some + run(spec, 4) == expected
    assert expected[0] == ("search-0001", {RANK: 16, "quantize.group_size": 32})
    assert len({str(values) for _, values in expected}) == 8
    assert [trial.name for trial in Study(STUDY, spec, "state").trials] == [name for name, _ in expected]


def test_another_objective_knows_what_was_tried_and_another_state_does_not(load):
    first = dict(run(load(), 4))
    study = Study(STUDY, load(objective="minimize travel.onnx.adapter.loss"), "state")
    ticket = study.ask({"search-0041"}, [])
    assert ticket.name == "search-0042"
    assert ticket.values not in first.values()
    assert {trial.name for trial in study.trials} <= set(first)
    assert Study(STUDY, load(), "another").trials == []


def test_a_search_that_asks_for_speed_begins_anew(load):
    run(load(), 4)
    spec = load(front=["maximize speed.decode"])
    study = Study(STUDY, spec, "state")
    assert study.begin(spec.params.model_dump())
    assert study.ask(set(), []).values == {RANK: 16, "quantize.group_size": 32}


def test_what_params_yaml_refuses_is_no_trial(load):
    method = "quantize.mixed_precision.method"
    spec = load(space={"quantize.bits": [4, 8], method: ["none", "k_quant_mixed"]})
    study = Study(STUDY, spec, "state")
    found = []
    while (ticket := study.ask(set(), [])) is not None:
        found.append((ticket.values["quantize.bits"], ticket.values[method]))
        study.finish(ticket, metrics({"quantize.group_size": 32, RANK: 4}))
    assert sorted(found) == [(4, "k_quant_mixed"), (4, "none"), (8, "none")]
    assert len(study.trials) == 3
    told = len(study._study.get_trials())
    assert Study(STUDY, spec, "state").ask(set(), []) is None
    assert len(study._study.get_trials()) == told


def test_the_search_ends_with_the_space(load):
    spec = load(space={"quantize.group_size": [16, 32], RANK: [4, 8]})
    study = Study(STUDY, spec, "state")
    tickets: list[Ticket] = []
    while (ticket := study.ask(set(), tickets)) is not None:
        tickets.append(ticket)
    assert len({str(ticket.values) for ticket in tickets}) == 4
    assert [ticket.name for ticket in tickets] == [f"search-000{number}" for number in range(1, 5)]


def test_what_failed_is_not_tried_again_unless_it_is_asked_for(load):
    spec = load(space={"quantize.group_size": [16], RANK: [8, 31]})
    run(spec, 2)
    study = Study(STUDY, spec, "state")
    assert study.ask(set(), []) is None
    (failed,) = [trial for trial in study.trials if trial.metrics is None]
    assert running.outcome(spec, failed) == "failed: too wide"
    assert study.retry() == 1
    ticket = study.ask(set(), [])
    assert (ticket.name, ticket.values) == (failed.name, failed.values)
    study.finish(ticket, metrics(ticket.values))
    assert all(trial.metrics for trial in Study(STUDY, spec, "state").trials)


def test_what_failed_in_another_search_may_be_tried_again(load):
    some = {"quantize.group_size": [16], RANK: [8, 31]}
    run(load(space=some), 2)
    study = Study(STUDY, load(space=some, seed=4), "state")
    assert study.ask(set(), []) is None
    (failed,) = [trial for trial in study.trials if trial.metrics is None]
    assert study.retry() == 1
    ticket = study.ask(set(), [])
    assert (ticket.name, ticket.values) == (failed.name, failed.values)


def test_what_is_tried_again_goes_on_where_it_was_stopped(load):
    spec = load(space={"quantize.group_size": [16], RANK: [31, 32]})
    failed = dict(run(spec, 2))
    study = Study(STUDY, spec, "state")
    assert study.retry() == 2
    first = study.ask(set(), [])
    resumed = Study(STUDY, spec, "state")
    assert resumed.resume() == 2
    assert resumed.trials == []
    assert resumed.retry() == 0
    again = {}
    while (ticket := resumed.ask(set(), [])) is not None:
        again[ticket.name] = ticket.values
        resumed.finish(ticket, metrics(ticket.values))
    assert again == failed
    assert first.name in again
