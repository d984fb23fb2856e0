"""One adapter trained by two processes, and by two nodes: also after a kill, and after a machine was gone.

Each node is a process in a folder of its own, by what clusters say in the environment.
"""

import os
import shutil
import signal
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
from press.model import meeting
meeting.LOST_SECONDS = 10
sys.argv = ["finetune", "travel"]
runpy.run_module("stages.finetune", run_name="__main__", alter_sys=True)
""",
)
SECONDS = 300
CHECKPOINTS = ".travel.checkpoints"
MADE = ("models/adapters/travel", "reports/finetune/travel")


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


@pytest.fixture(scope="module")
def trained(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with an adapter that two processes trained, and in `left` what a kill in the middle leaves.

    That is what is there while all processes stand still; that none outlives the first: test_launcher.py. With dropout,
    so that also each process's random state has to be taken up; tests/press/training/ has one process.
    """
    copy = built.copy_to(tmp_path_factory.mktemp("trained") / "olive-press")
    copy.edit("params.yaml", "    rank: 4", "    dropout: 0.1\n    rank: 4")
    copy.edit("params.yaml", "max_steps: 4", "processes: 2\n    max_steps: 8")
    copy.resolve()
    adapter, checkpoints = (copy.folder / f"models/adapters/{name}" for name in ("travel", CHECKPOINTS))
    shutil.rmtree(adapter)
    process = copy.start(*stage("finetune travel"), start_new_session=True)
    while not (checkpoints / "trainer/checkpoint-4").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGSTOP)
    assert not adapter.exists()
    shutil.copytree(checkpoints, copy.folder / "left")
    os.killpg(process.pid, signal.SIGCONT)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert not checkpoints.exists()
    return copy


@pytest.fixture
def machines() -> Iterator[Machines]:
    pair = Machines()
    yield pair
    pair.close()


def digests(project: Project) -> list[str]:
    """Return those of the adapter, and of the reports about its training."""
    return [
        files.folder_digest(project.folder / path) for path in ("models/adapters/travel", "reports/finetune/travel")
    ]


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


def test_a_killed_training_of_two_processes_goes_on_and_ends_with_the_same_bytes(trained, tmp_path):
    copy = trained.copy_to(tmp_path / "olive-press")
    for path in MADE:
        shutil.rmtree(copy.folder / path)
    checkpoints = copy.folder / "models/adapters" / CHECKPOINTS
    (copy.folder / "left").rename(checkpoints)
    result = copy.run(*stage("finetune travel"))
    assert digests(copy) == digests(trained)
    # At the kill, the checkpoint of step 4 may not have been whole; that of step 2 was.
    assert 0 < result.stdout.count("'loss': ") <= 8 - 2
    assert not checkpoints.exists()


def test_two_machines_train_what_two_processes_do_also_after_one_was_gone(trained, machines, tmp_path):
    projects = pair(trained, tmp_path)
    first, second = (each.folder / "models/adapters" for each in projects)

    processes = machines.start(projects)
    kept = [folder / CHECKPOINTS for folder in (first, second)]
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
    assert digests(projects[0]) == digests(trained)
