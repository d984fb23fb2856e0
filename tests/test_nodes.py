"""One adapter trained by two nodes: each a process in a folder of its own, by what clusters say in the environment."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from projects import Project, stage

from press.core import files
from press.model import nodes

pytestmark = pytest.mark.integration
# The stage, with less patience.
STAGE = (
    sys.executable,
    "-c",
    """
import runpy, sys
from press.model import nodes
nodes.LOST_SECONDS = 10
sys.argv = ["finetune", "travel"]
runpy.run_module("stages.finetune", run_name="__main__", alter_sys=True)
""",
)
SECONDS = 300


@dataclass
class Machines:
    """Two machines: network namespaces with a cable between them, or where that is not allowed, this one twice."""

    names: list[str] = field(default_factory=lambda: [f"press-{os.getpid()}-{index}" for index in range(2)])
    address: str = "10.77.0.1"

    def __post_init__(self) -> None:
        first, second = self.names
        commands = [
            *(f"ip netns add {name}" for name in self.names),
            f"ip -n {first} link add cable type veth peer name cable netns {second}",
            *(f"ip -n {name} address add 10.77.0.{rank + 1}/24 dev cable" for rank, name in enumerate(self.names)),
            *(f"ip -n {name} link set {link} up" for name in self.names for link in ("lo", "cable")),
        ]
        if shutil.which("ip") is None or not all(_succeeds(command) for command in commands):
            self.close()
            self.names, self.address = [], "127.0.0.1"

    def close(self) -> None:
        for name in self.names:
            _succeeds(f"ip netns delete {name}")

    def start(self, projects: list[Project]) -> list[subprocess.Popen]:
        """Start the stage on both."""
        processes = []
        port = str(nodes.free_port())
        for rank, project in enumerate(projects):
            project.environment |= {nodes.ADDRESS: self.address, nodes.PORT: port, nodes.RANK: str(rank)}
            before = ["ip", "netns", "exec", self.names[rank]] if self.names else []
            processes.append(project.start(*before, *STAGE))
        return processes

    def part(self, second: subprocess.Popen) -> None:
        """Let the machines not hear of each other any more, without a word; or else kill what runs on the second."""
        if self.names:
            assert _succeeds(f"ip -n {self.names[0]} link set cable down")
        else:
            second.kill()

    def join(self) -> None:
        if self.names:
            assert _succeeds(f"ip -n {self.names[0]} link set cable up")


def _succeeds(command: str) -> bool:
    return (
        shutil.which("ip") is not None
        and not subprocess.run(command.split(), check=False, capture_output=True).returncode
    )


@pytest.fixture
def machines() -> Iterator[Machines]:
    pair = Machines()
    yield pair
    pair.close()


def pair(project: Project, folder: Path) -> list[Project]:
    """Return the two nodes' projects, with the same inputs and nothing in common."""
    first = project.copy_to(folder / "first")
    first.edit("params.yaml", "processes: 2", "nodes: 2")
    first.resolve()
    files.remove(first.folder / "models/adapters")
    second = first.copy_to(folder / "second")
    return [first, second]


def last_lines(processes: list[subprocess.Popen]) -> list[str]:
    said = [process.communicate(timeout=SECONDS)[1] for process in processes]
    # Python says more of what a killed process has left behind.
    return [text[text.rfind("error: ") :].partition("\n")[0] if "error: " in text else text for text in said]


def test_two_machines_train_what_two_processes_do_also_after_one_was_gone(copy, machines, tmp_path):
    """With dropout, so that also the random state of each has to be taken up."""
    copy.edit("params.yaml", "    rank: 4", "    dropout: 0.1\n    rank: 4")
    copy.edit("params.yaml", "max_steps: 4", "processes: 2\n    max_steps: 8")
    copy.resolve()
    copy.run(*stage("finetune travel"))
    projects = pair(copy, tmp_path)
    first, second = (each.folder / "models/adapters" for each in projects)

    processes = machines.start(projects)
    kept = [folder / ".travel.checkpoints" for folder in (first, second)]
    checkpoint = kept[0] / "trainer/checkpoint-4"
    end = time.monotonic() + SECONDS
    while not checkpoint.exists():
        assert time.monotonic() < end
        assert processes[0].poll() is None, last_lines(processes)
        time.sleep(0.01)
    machines.part(processes[1])
    begun = time.monotonic()
    sentences = last_lines(processes)
    assert time.monotonic() - begun < 120
    assert sentences[0].startswith("error: node 1 of 2 is gone: start the training on all again")
    if machines.names:
        assert sentences[1].startswith("error: node 0 of 2 is gone: start the training on all again")
    assert [process.returncode for process in processes] == [1, 1 if machines.names else -9]
    assert not list(first.glob("[a-z]*"))

    # As on a disk that they share.
    shutil.copytree(kept[1], kept[0], dirs_exist_ok=True)
    shutil.copytree(kept[0], kept[1], dirs_exist_ok=True)
    machines.join()
    processes = machines.start(projects)
    said = [process.communicate(timeout=SECONDS) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    # It went on from a checkpoint.
    assert 0 < said[0][0].count("'loss': ") <= 8 - 2
    assert not list(second.glob("[a-z]*"))
    for path in ("models/adapters/travel", "reports/finetune/travel"):
        assert files.folder_digest(projects[0].folder / path) == files.folder_digest(copy.folder / path)
