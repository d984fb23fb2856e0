"""The nodes that train one adapter together: which of them this is, by what clusters say in the environment.

PyTorch's launcher gives the processes their ranks: by torchrun's static rendezvous, in the order in which the cluster
counts its nodes, so that each has the same part of a batch whatever its address is. How they meet: meeting.py.
"""

import os
import socket
from dataclasses import dataclass

from press.core.errors import UserError
from press.params import schema

# As torchrun and the clusters set them.
ADDRESS, PORT, RANK = "MASTER_ADDR", "MASTER_PORT", "NODE_RANK"
# Set where an engine is about to start jobs, which sets the others for them.
CLUSTER = "OLIVE_PRESS_CLUSTER"


@dataclass(frozen=True)
class Node:
    """One of the machines.

    :param rank: from 0, whose adapter it is that counts
    :param address: of the first, as all reach it
    :param port: of the first, where they meet
    """

    rank: int = 0
    count: int = 1
    address: str = "localhost"
    port: int = 0


def ranks(training: schema.Training) -> int:
    """Return how many processes share each batch, on all nodes."""
    return training.nodes * training.processes


def here(adapter: str, count: int) -> Node:
    """Return which of an adapter's nodes this is, by the variables that launchers of clusters set.

    To be called before PyTorch is loaded.

    :param count: training.nodes
    :raises UserError: if there are no such variables, or they say something else
    """
    if count == 1:
        return Node()
    # PyTorch's C++ warns of each connection that another node closes.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    key = f"adapters.{adapter}.training.nodes is {count}"
    given = os.environ
    if not given.get(ADDRESS):
        raise UserError(f"{key}, but nothing says where the others are: {how_to_start(adapter)}")
    _check_one_process(key, count)
    port = _number(PORT, given.get(PORT), 1, 65535)
    rank = _number(RANK, given.get(RANK, given.get("GROUP_RANK")), 0, count - 1)
    return Node(rank, count, given[ADDRESS], port)


def how_to_start(adapter: str) -> str:
    """Say how a training on several nodes is started."""
    return (
        f"`make repro ENGINE=ray` or `azureml` starts it on all, or `python -m stages.finetune {adapter}` on each with "
        f"{ADDRESS}, {PORT} and {RANK} (docs/training.md)"
    )


def _check_one_process(key: str, count: int) -> None:
    """Refuse to be one of several processes of a node, or of another number of nodes."""
    size = os.environ.get("WORLD_SIZE", str(count))
    if size != str(count) or os.environ.get("LOCAL_RANK", "0") != "0":
        raise UserError(
            f"{key}, but by WORLD_SIZE it was started as one of {size} processes: start it once on each node (one "
            "process an instance), since it starts training.processes by itself"
        )


def _number(name: str, text: str | None, least: int, most: int) -> int:
    if text is None or not text.isdecimal() or not least <= int(text) <= most:
        said = "is not set" if text is None else f"is {text!r}"
        raise UserError(f"the variable {name} {said}, but must be a number from {least} to {most}")
    return int(text)


def free_port() -> int:
    """Return the number of a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def interface(node: Node) -> str:
    """Return the name of the network interface by which this machine reaches the first node."""
    import psutil

    family, kind, _, _, where = socket.getaddrinfo(node.address, node.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        # Nothing is sent.
        probe.connect(where)
        own = probe.getsockname()[0]
    cards = psutil.net_if_addrs().items()
    return next(name for name, addresses in cards if own in (each.address for each in addresses))
