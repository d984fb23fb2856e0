"""Which node this is, and what is said where the nodes of a training do not meet; tests/test_nodes.py trains on two."""

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from press.core.errors import UserError
from press.model import nodes

GIVEN = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "6105", "NODE_RANK": "1"}
VARIABLES = (*GIVEN, "GROUP_RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_USE_AGENT_STORE", nodes.CLUSTER)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Set these variables alone."""
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def environment(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return environment


@pytest.mark.parametrize(
    "given",
    [
        GIVEN,
        # As torchrun and Azure ML set them, too.
        {**GIVEN, "NODE_RANK": "1", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "0"},
        {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "6105", "GROUP_RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
    ],
)
def test_the_variables_of_launchers_say_which_node_this_is(environment, given):
    environment(**given)
    assert nodes.here("travel", 2) == nodes.Node(1, 2, "10.0.0.1", 6105)


def test_one_node_needs_no_variables(environment):
    environment(**GIVEN)
    assert nodes.here("travel", 1).count == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "adapters.travel.training.nodes is 2, but nothing says where the others are: `make repro ENGINE=ray`"),
        ({**GIVEN, "MASTER_PORT": "x"}, "the variable MASTER_PORT is 'x', but must be a number from 1 to 65535"),
        ({**GIVEN, "NODE_RANK": "2"}, "the variable NODE_RANK is '2', but must be a number from 0 to 1"),
        ({"MASTER_ADDR": "a", "MASTER_PORT": "1"}, "the variable NODE_RANK is not set, but must be a number"),
        ({**GIVEN, "WORLD_SIZE": "8"}, "but by WORLD_SIZE it was started as one of 8 processes: start it once on each"),
        ({**GIVEN, "LOCAL_RANK": "1"}, "start it once on each node"),
    ],
)
def test_variables_that_do_not_fit_are_a_sentence(environment, given, sentence):
    environment(**given)
    with pytest.raises(UserError) as caught:
        nodes.here("travel", 2)
    assert sentence in str(caught.value)


@pytest.fixture
def pair(monkeypatch) -> list[nodes.Node]:
    """Two nodes in this process."""
    monkeypatch.setattr(nodes, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(multiprocessing, "active_children", list)
    port = nodes.free_port()
    return [nodes.Node(rank, 2, "127.0.0.1", port) for rank in range(2)]


def reasons(pair: list[nodes.Node], inputs: tuple[str, str], work) -> list[str]:
    """Let the nodes meet, do something, and return what each is told."""

    def take_part(node: nodes.Node) -> str:
        try:
            with nodes.meeting(node, inputs[node.rank]) as met:
                work(met)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(take_part, pair))


@pytest.mark.integration
def test_nodes_that_do_not_come_are_named(pair, monkeypatch):
    monkeypatch.setattr(nodes, "JOIN_SECONDS", 1)
    with (
        pytest.raises(UserError, match=r"^of 2 nodes, 1 did not come to 127.0.0.1:\d+ within 1 s: start the"),
        nodes.meeting(pair[0], "same"),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"^node 0 of 2 does not answer at 127.0.0.1:\d+ within 1 s \("),
        nodes.meeting(nodes.Node(1, 2, "127.0.0.1", nodes.free_port()), "same"),
    ):
        pass


@pytest.mark.integration
def test_nodes_with_other_inputs_do_not_train(pair):
    said = reasons(pair, ("a", "b"), lambda met: pytest.fail("they train"))
    assert all("node 1 would train on something else than node 0" in each for each in said)


@pytest.mark.integration
def test_a_failure_is_told_to_the_others(pair):
    def work(met: nodes.Meeting) -> None:
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
    monkeypatch.setattr(nodes, "LOST_SECONDS", 3)
    hear = nodes.Meeting._hear
    stopped, told = threading.Event(), threading.Event()

    def hang(met: nodes.Meeting, store: object) -> None:
        # Neither is the other heard of here, nor this node there.
        while stopped.is_set() and not met._over.is_set():
            time.sleep(0.05)
        hear(met, store)

    def work(met: nodes.Meeting) -> None:
        if met.node.rank == gone:
            monkeypatch.setattr(
                nodes.Meeting, "_hear", lambda other, store: (hang if other is met else hear)(other, store)
            )
            stopped.set()
            told.wait(20)
            stopped.clear()
        else:
            reason = met.wait_for_reason()
            told.set()
            raise UserError(reason)

    assert reasons(pair, ("a", "a"), work)[1 - gone].startswith(f"node {gone} of 2 is gone: start the training on")
