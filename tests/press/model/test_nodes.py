"""Which node this is, by what launchers say; tests/test_nodes.py trains on two."""

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
