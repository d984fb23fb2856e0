"""Answers take turns: none waits for another one's end, none takes more places than there are, none is lost."""

import inspect
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from press.serve.scheduling import FullError, Heard, Scheduler, StoppedError, Ticket

# Long enough for a thread of a busy machine.
SECONDS = 30


def counted(name: str, turns: int) -> Iterator[str]:
    yield from (f"{name}{turn}" for turn in range(turns))


def begun(scheduler: Scheduler, turns: Iterator[str], hear: Callable[[Heard], None]) -> Ticket:
    ticket = scheduler.enter()
    ticket.begin(turns, hear)
    return ticket


def taken(scheduler: Scheduler, turns: int) -> None:
    for _ in range(turns):
        scheduler.turn()


@pytest.fixture
def working():
    """A scheduler whose thread runs; in the end all of its answers are taken back."""
    scheduler = Scheduler(at_once=2, waiting=1)
    scheduler.start()
    yield scheduler
    for ticket in list(scheduler._inside):
        ticket.cancel()
    scheduler.stop()


def eventually(happens: Callable[[], bool]) -> bool:
    until = time.monotonic() + SECONDS
    while not happens() and time.monotonic() < until:
        time.sleep(0.005)
    return happens()


def test_a_long_answer_does_not_keep_short_ones_waiting():
    scheduler, heard = Scheduler(3, 0), []
    for name, turns in (("long", 5), ("a", 1), ("b", 2)):
        begun(scheduler, counted(name, turns), heard.append)
    taken(scheduler, 20)
    assert heard == ["long0", "a0", "b0", "long1", None, "b1", "long2", None, "long3", "long4", None]


def test_a_round_ends_when_all_have_had_a_turn_and_when_none_is_left():
    told: list[Heard] = []
    scheduler = Scheduler(3, 0, lambda: told.append("|"))
    for name, turns in (("long", 3), ("a", 1), ("b", 2)):
        begun(scheduler, counted(name, turns), told.append)
    taken(scheduler, 20)
    assert told == ["long0", "a0", "b0", "|", "long1", None, "b1", "|", "long2", None, "|", None, "|"]


def test_an_answer_that_waits_comes_in_when_another_one_ends_and_in_the_order_of_requests():
    scheduler, heard = Scheduler(1, 2), []
    for name in "abc":
        begun(scheduler, counted(name, 2), heard.append)
    assert (scheduler.running, scheduler.waiting) == (0, 3)
    scheduler.turn()
    assert (scheduler.running, scheduler.waiting) == (1, 2)
    taken(scheduler, 20)
    assert heard == ["a0", "a1", None, "b0", "b1", None, "c0", "c1", None]
    assert (scheduler.running, scheduler.waiting) == (0, 0)


def test_past_the_last_place_a_request_is_refused_until_one_is_given_back():
    scheduler = Scheduler(1, 1)
    first, _ = scheduler.enter(), scheduler.enter()
    with pytest.raises(FullError) as full:
        scheduler.enter()
    assert full.value.seconds == 1
    first.cancel()
    first.cancel()
    scheduler.enter()
    with pytest.raises(FullError):
        scheduler.enter()


def test_a_refused_client_is_told_to_wait_longer_where_answers_take_long(monkeypatch):
    scheduler, now = Scheduler(1, 0), [1.0]
    monkeypatch.setattr("press.serve.scheduling.time.monotonic", lambda: now[0])
    for _ in range(30):
        begun(scheduler, counted("a", 1), lambda _: None)
        scheduler.turn()
        now[0] += 20
        scheduler.turn()
    scheduler.enter()
    with pytest.raises(FullError) as full:
        scheduler.enter()
    assert 18 <= full.value.seconds <= 20


def test_what_is_taken_back_takes_no_further_turn_and_frees_its_memory():
    class Memory:
        pass

    freed = []

    def turns(memory: Memory) -> Iterator[str]:
        weakref.finalize(memory, freed.append, True)
        while True:
            yield "again"

    scheduler, heard = Scheduler(1, 1), []
    ticket = begun(scheduler, turns(Memory()), heard.append)
    taken(scheduler, 3)
    ticket.cancel()
    assert not freed
    taken(scheduler, 3)
    assert (heard, freed) == (["again"] * 3, [True])
    assert scheduler.running == 0


def test_what_is_taken_back_ends_at_once_whoever_else_still_knows_it():
    """A collection of garbage would end it later, where a lock may be held that its end needs."""
    known, scheduler = counted("a", 3), Scheduler(1, 0)
    ticket = begun(scheduler, known, lambda _: None)
    scheduler.turn()
    ticket.cancel()
    scheduler.turn()
    assert inspect.getgeneratorstate(known) == inspect.GEN_CLOSED


def test_one_that_waits_and_is_taken_back_takes_no_turn_at_all():
    scheduler, heard = Scheduler(1, 2), []
    begun(scheduler, counted("a", 2), heard.append)
    begun(scheduler, counted("b", 2), heard.append).cancel()
    prepared = scheduler.enter()
    prepared.cancel()
    prepared.begin(counted("c", 2), heard.append)
    taken(scheduler, 20)
    assert heard == ["a0", "a1", None]


def test_one_that_fails_ends_alone(caplog):
    def turns() -> Iterator[str]:
        yield "x"
        raise RuntimeError("out of memory")

    scheduler, bad, good = Scheduler(2, 0), [], []
    begun(scheduler, turns(), bad.append)
    begun(scheduler, counted("a", 3), good.append)
    taken(scheduler, 20)
    assert bad[0] == "x"
    assert str(bad[1]) == "out of memory"
    assert len(bad) == 2
    assert good == ["a0", "a1", "a2", None]
    assert "out of memory" in caplog.text
    scheduler.enter()


def test_the_thread_takes_turns_until_it_is_stopped_and_finishes_what_is_there(working):
    heard: dict[str, list[Heard]] = {name: [] for name in "abc"}
    for name, hearer in heard.items():
        begun(working, counted(name, 50), hearer.append)
    assert working.ready
    working.stop()
    assert not working.ready
    assert [len(each) for each in heard.values()] == [51, 51, 51]
    with pytest.raises(StoppedError):
        working.enter()


def test_a_stop_waits_for_one_whose_prompt_is_not_ready_yet(working):
    ticket, heard = working.enter(), []
    stopping = threading.Thread(target=working.stop)
    stopping.start()
    assert eventually(lambda: not working.ready)
    stopping.join(0.2)
    assert stopping.is_alive()
    ticket.begin(counted("a", 2), heard.append)
    stopping.join(SECONDS)
    assert heard == ["a0", "a1", None]


def test_turns_are_taken_and_closed_in_one_thread(working):
    seen, gone = set(), threading.Event()

    def turns() -> Iterator[str]:
        try:
            while True:
                seen.add(threading.current_thread().name)
                yield ""
        finally:
            seen.add(threading.current_thread().name)
            gone.set()

    ticket = begun(working, turns(), lambda _: None)
    assert eventually(lambda: bool(seen))
    ticket.cancel()
    assert gone.wait(SECONDS)
    assert seen == {"turns"}
