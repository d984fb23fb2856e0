"""What is said where the nodes of a training do not meet, or one is lost; tests/test_nodes.py trains on two."""

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from press.core.errors import UserError
from press.model import meeting
from press.model.nodes import Node, free_port


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No torchrun is around this, and PyTorch's C++ says nothing."""
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)


@pytest.fixture
def pair(monkeypatch) -> list[Node]:
    """Two nodes in this process."""
    monkeypatch.setattr(meeting, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(multiprocessing, "active_children", list)
    port = free_port()
    return [Node(rank, 2, "127.0.0.1", port) for rank in range(2)]


def reasons(pair: list[Node], inputs: tuple[str, str], work) -> list[str]:
    """Let the nodes meet, do something, and return what each is told."""

    def take_part(node: Node) -> str:
        try:
            with meeting.meeting(node, inputs[node.rank]) as met:
                work(met)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(take_part, pair))


@pytest.mark.integration
def test_nodes_that_do_not_come_are_named(pair, monkeypatch):
    monkeypatch.setattr(meeting, "JOIN_SECONDS", 1)
    with (
        pytest.raises(UserError, match=r"^of 2 nodes, 1 did not come to 127.0.0.1:\d+ within 1 s: start the"),
        meeting.meeting(pair[0], "same"),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"^node 0 of 2 does not answer at 127.0.0.1:\d+ within 1 s \("),
        meeting.meeting(Node(1, 2, "127.0.0.1", free_port()), "same"),
    ):
        pass


@pytest.mark.integration
def test_nodes_with_other_inputs_do_not_train(pair):
    said = reasons(pair, ("a", "b"), lambda met: pytest.fail("they train"))
    assert all("node 1 would train on something else than node 0" in each for each in said)


@pytest.mark.integration
def test_a_failure_is_told_to_the_others(pair):
    def work(met: meeting.Meeting) -> None:
        if met.node.rank:
            raise UserError("the GPU is full")
        raise UserError(met.wait_for_reason())

    assert reasons(pair, ("a", "a"), work) == ["node 1 of 2 failed: the GPU is full", "the GPU is full"]


@pytest.mark.integration
def test_nodes_that_end_well_say_nothing(pair):
    assert reasons(pair, ("a", "a"), lambda met: None) == ["", ""]


@pytest.mark.integration
@pytest.mark.parametrize("gone", [0, 1])
def test_a_node_that_falls_silent_is_gone(pair, monkeypatch, gone):
    """Its store, if it is the first, goes on to take connections, as a machine does whose cable is pulled."""
    monkeypatch.setattr(meeting, "LOST_SECONDS", 3)
    hear = meeting.Meeting._hear
    stopped, told = threading.Event(), threading.Event()

    def hang(met: meeting.Meeting, store: object) -> None:
        # Neither is the other heard of here, nor this node there.
        while stopped.is_set() and not met._over.is_set():
            time.sleep(0.05)
        hear(met, store)

    def work(met: meeting.Meeting) -> None:
        if met.node.rank == gone:
            monkeypatch.setattr(
                meeting.Meeting, "_hear", lambda other, store: (hang if other is met else hear)(other, store)
            )
            stopped.set()
            told.wait(20)
            stopped.clear()
        else:
            reason = met.wait_for_reason()
            told.set()
            raise UserError(reason)

    assert reasons(pair, ("a", "a"), work)[1 - gone].startswith(f"node {gone} of 2 is gone: start the training on")


@pytest.mark.integration
def test_the_first_node_stays_for_no_node_that_is_gone_and_leaves_no_thread(pair, monkeypatch):
    """Which Python would end in the middle of PyTorch's C++, with SIGABRT instead of a sentence."""
    monkeypatch.setattr(meeting, "LEAVE_SECONDS", 0.5)
    met = meeting.Meeting(pair[0], "same")
    other = meeting._store(pair[1], hosts=False)
    for key, said in (("inputs/1", "same"), ("beat/1", "0")):
        other.set(key, said)
    met.wait_for_all()
    met.leave()
    assert not met._listener.is_alive()
