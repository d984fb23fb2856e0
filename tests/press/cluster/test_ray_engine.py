"""How a job on several machines ends, by what each of them says; test_cluster.py has a real cluster."""

import sys
from types import SimpleNamespace

import pytest

from press.cluster import settings
from press.cluster.ray_engine import RayEngine, Task
from press.core.errors import UserError

GOOD, REFUSED, KILLED = ({"code": code, "late": False} for code in (0, 1, -9))


class GoneError(Exception):
    """What Ray raises of a machine that went away."""


class Stream:
    """What one machine says, one after the other, and how it fails."""

    def __init__(self, *said):
        self._said = list(said)

    def __next__(self):
        if not self._said:
            raise StopIteration
        return self._said.pop(0)


class Ray:
    """Streams are ready in the order in which they were begun, each to its end."""

    exceptions = SimpleNamespace(RayError=GoneError)

    def __init__(self):
        self.cancelled, self.removed = [], []
        self.util = SimpleNamespace(remove_placement_group=self.removed.append)

    def wait(self, streams, **_):
        return streams[:1], streams[1:]

    def get(self, said):
        if isinstance(said[1], Exception):
            raise said[1]
        return said

    def cancel(self, stream, *, force):
        self.cancelled.append(stream)
        self.forced = force


def started(*streams: Stream) -> RayEngine:
    """Return an engine with one job, whose machines say this."""
    engine = RayEngine.__new__(RayEngine)
    engine._ray = Ray()
    asked = settings.OnNodes(cpus=1, memory=1, gpus=0, nodes=2)
    task = Task("finetune@travel", "", asked, 60, [], group="group")
    task.streams = {stream: rank for rank, stream in enumerate(streams)}
    engine._tasks = dict.fromkeys(streams, task)
    return engine


def events(*streams: Stream) -> tuple[list, Ray]:
    """Return what an engine says of one job, whose machines say this, and what it did."""
    engine = started(*streams)
    return list(engine.events()), engine._ray


def test_the_first_machine_says_how_it_ended_and_the_others_end_with_it():
    other = Stream(("b", "waits"))
    said, ray = events(Stream(("a", ""), ("a", "line"), ("a", GOOD)), other)
    assert said == [("finetune@travel", "a", ""), ("finetune@travel", "a", "line"), ("finetune@travel", "a", GOOD)]
    assert ray.cancelled == [other]
    assert ray.removed == ["group"]


@pytest.mark.parametrize("lost", [GoneError("the node is dead"), KILLED])
def test_a_machine_that_is_lost_is_at_fault_for_what_the_first_says(lost):
    said, ray = events(Stream(("a", REFUSED)), Stream(("b", ""), ("b", "line"), ("b", lost)))
    assert said == [("finetune@travel", "", "node 1 | line"), ("finetune@travel", "b", lost)]
    assert ray.removed == ["group"]


def test_a_refusal_is_that_of_the_machine_that_ended_first():
    said, _ = events(Stream(("a", REFUSED)), Stream(("b", REFUSED)))
    assert said == [("finetune@travel", "a", REFUSED)]


def test_a_job_that_is_cancelled_ends_at_once_and_says_nothing_more():
    one, other = Stream(("a", "line")), Stream(("b", "line"))
    engine = started(one, other)
    engine.cancel("finetune@packing")
    assert engine._ray.cancelled == []
    engine.cancel("finetune@travel")
    # What waits for a line hears nothing of it otherwise.
    assert (engine._ray.cancelled, engine._ray.forced, engine._ray.removed) == ([one, other], True, ["group"])
    assert list(engine.events()) == []


def test_local_is_a_cluster_of_its_own_though_another_one_runs_here(monkeypatch):
    asked = []

    def init(address, **_):
        asked.append(address)
        raise RuntimeError("it is enough to be asked")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(UserError, match="it is enough to be asked"):
        RayEngine(SimpleNamespace(address="local"), b"")
    # As Ray documents it; without an address, it would join the cluster that was started last.
    assert asked == ["local"]


def test_a_job_on_several_machines_is_more_than_its_resources():
    one = settings.Resources(cpus=1, memory=1, gpus=0)
    assert (settings.nodes(one), settings.nodes(settings.OnNodes(**one.model_dump(), nodes=3))) == (1, 3)
