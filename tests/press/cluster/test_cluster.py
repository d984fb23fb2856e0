"""The pipeline on a real Ray cluster, as it goes well and as machines fail."""

import csv
import hashlib
import re
import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from projects import Project, assert_sentence

from press.cluster import worker
from press.core import files

from .conftest import configure, first, lock, other_python, train_on_two_nodes, wait_until_gone
from .searching import write_search

pytestmark = pytest.mark.integration
CLUSTER = ("press.cluster", "run", "ray")
RUN = (sys.executable, "-m", *CLUSTER)
SECONDS = 300


@pytest.fixture
def address(machines, project: Project) -> str:
    """Let the project's jobs go to the cluster, which gets two machines of one core."""
    if not machines.cluster.worker_nodes:
        machines()
        machines()
    use(project, machines.cluster.address)
    return machines.cluster.address


def use(project: Project, address: str, **block: object) -> None:
    resources = {"default": {"cpus": 1, "memory": 0.1, "gpus": 0}}
    configure(project, {"address": address, "retries": 2, "minutes": 5, "resources": resources, **block})


def remove_all(machines) -> None:
    """Leave the cluster its head."""
    for node in list(machines.cluster.worker_nodes):
        machines.cluster.remove_node(node)


def dry_run(project: Project) -> str:
    """Return the plan, which this process makes."""
    return project.module(*CLUSTER, "--dry-run").stdout


def wait_for(path: Path) -> str:
    """Return what a file says, once it says something."""
    end = time.monotonic() + SECONDS
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.1)
    return path.read_text(encoding="utf-8")


def test_an_unpushed_commit_and_a_dirty_tree_give_what_they_give_here_and_nothing_runs_twice(
    address, project, tmp_path
):
    meeting = """
import time
{mine}.touch()
while not {other}.exists():
    time.sleep(0.1)
"""
    here, there = (f"Path({str(tmp_path / name)!r})" for name in ("one", "two"))
    project.run("git", "clone", "--quiet", "--bare", ".", str(tmp_path / "origin"))
    project.run("git", "remote", "add", "origin", str(tmp_path / "origin"))
    # Origin has neither the commit nor what comes after it: a file that has changed, and a new one.
    first(project, "one", meeting.format(mine=here, other=there))
    first(project, "two", meeting.format(mine=there, other=here))
    project.commit()
    (project.folder / "new.txt").write_text("new", encoding="utf-8")
    project.edit("stages/both.py", 'Path("one.txt")', 'Path("new.txt").read_text() + Path("one.txt")')
    alone = project.copy_to(tmp_path / "alone")
    plan = dry_run(project)
    assert "both: 1 cores, 0.1 GB after one, two" in plan
    assert "3 jobs, 0 stages are up to date" in plan
    assert not (tmp_path / "one").exists()

    # One and two wait for each other, so that they end only side by side.
    said = project.run(*RUN).stdout
    assert "both is done" in said
    assert project.module("press.cluster", "logs", "both").stdout.startswith("Running stage 'both':")
    missing = project.module("press.cluster", "logs", "other")
    assert_sentence(missing, "JOB is 'other', but there are logs of both, one, two")
    # Here one after the other, after both have been there.
    alone.run("dvc", "repro")
    assert lock(project) == lock(alone)
    for name in ("one.txt", "two.txt", "both.txt", "reports/both.json"):
        assert files.sha256(project.folder / name) == files.sha256(alone.folder / name)
    assert (project.folder / "both.txt").read_text(encoding="utf-8") == "newone 42two"
    assert "Data and pipelines are up to date." in project.run("dvc", "repro").stdout

    # A machine that has the project alone is told by dvc.lock what is done, and gets it.
    project.commit()
    clone = Project(tmp_path / "clone")
    project.run("git", "clone", "--quiet", str(project.folder), str(clone.folder))
    assert "0 jobs, 3 stages are up to date" in clone.module(*CLUSTER).stdout
    assert (clone.folder / "both.txt").read_text(encoding="utf-8") == "newone 42two"
    clone.edit("stages/two.py", '"two"', '"2"')
    plan = dry_run(clone)
    assert "both: 1 cores, 0.1 GB after two" in plan
    assert "2 jobs, 1 stages are up to date" in plan

    # What is set back after something else was built comes out of the cache, as here.
    alone.edit("stages/two.py", '"two"', '"2"')
    alone.run("dvc", "repro")
    alone.edit("stages/two.py", '"2"', '"two"')
    said = alone.module(*CLUSTER).stdout
    assert "two: out of DVC's run cache\nboth: out of DVC's run cache\n0 jobs, 3 stages are up to date" in said
    assert lock(alone) == lock(project)
    assert (alone.folder / "both.txt").read_text(encoding="utf-8") == "newone 42two"


def test_jobs_outlive_a_worker_a_machine_a_disk_and_a_remote_that_is_away_for_a_minute(
    machines, project, small_disk, tmp_path
):
    remove_all(machines)
    # Of two jobs, one at least comes to the first machine, on whose disk is no room for any.
    machines(cpus=2, home=small_disk)
    machines()
    use(project, machines.cluster.address, retries=4)
    where, killed, survivor, remote = (tmp_path / name for name in ("where", "killed", "survivor", "remote"))
    first(
        project,
        "one",
        f"""
import os, signal, time
if not Path({str(killed)!r}).exists():
    Path({str(killed)!r}).touch()
    parent = os.getppid()
    while b"ray::" not in Path(f"/proc/{{parent}}/cmdline").read_bytes():
        parent = int(Path(f"/proc/{{parent}}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(parent, signal.SIGKILL)
    time.sleep(5)
    Path({str(survivor)!r}).touch()
""",
    )
    first(
        project,
        "two",
        f"""
import os, time
if not Path({str(where)!r}).exists():
    Path({str(where)!r}).write_text(os.environ["OLIVE_PRESS_WORK"])
    time.sleep({SECONDS})
""",
    )
    first(
        project,
        "both",
        f"""
import subprocess
remote, away = Path({str(remote)!r}), Path({str(tmp_path / "away")!r})
remote.rename(away)
remote.touch()
subprocess.Popen(["sh", "-c", f"sleep 61; rm {{remote}}; mv {{away}} {{remote}}"], start_new_session=True)
""",
    )
    process = project.start(*RUN)
    # The machine that runs `two` goes away with all that it runs.
    home = wait_for(where)
    machines()
    node = next(each for each in machines.cluster.worker_nodes if each._ray_params.env_vars[worker.HOME] == home)
    machines.cluster.remove_node(node, allow_graceful=False)
    said, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    for stage in ("one", "two"):
        assert f"{stage}: its machine failed" in said
    assert "No space left on device" in said
    assert said.count("`dvc push` failed, and is tried again in 15 s") > 2
    assert not survivor.exists()
    assert (project.folder / "both.txt").read_text(encoding="utf-8") == "one 42two"
    assert_whole(tmp_path / "remote", lock(project))


def test_of_two_coordinators_one_is_stopped_and_one_killed_and_run_again(address, project, tmp_path):
    waiting = f"""
import os, time
mark = Path({str(tmp_path)!r}, Path("mark").read_text())
if not mark.exists():
    mark.write_text(str(os.getpid()))
    time.sleep({10 * SECONDS})
"""
    first(project, "both", waiting)
    # Clones with one remote, which build at the same time what they have in common.
    killed, stopped = (project.copy_to(tmp_path / f"clone-{name}") for name in ("killed", "stopped"))
    (killed.folder / "mark").write_text("killed", encoding="utf-8")
    (stopped.folder / "mark").write_text("stopped", encoding="utf-8")
    (killed.folder / "one.txt").write_text("old", encoding="utf-8")
    processes = [each.start(*RUN) for each in (killed, stopped)]
    stages = [wait_for(tmp_path / name) for name in ("killed", "stopped")]
    other = killed.module(*CLUSTER)
    assert_sentence(other, "this folder's pipeline runs on a cluster already: wait for it")
    processes[0].send_signal(signal.SIGKILL)
    processes[0].communicate()
    processes[1].send_signal(signal.SIGINT)
    _, errors = processes[1].communicate(timeout=SECONDS)
    assert processes[1].returncode == 130, errors
    assert "interrupted: run the same command again, it goes on from here" in errors
    for stage in stages:
        wait_until_gone(stage)
    assert set(lock(killed)["stages"]) == set(lock(stopped)["stages"]) == {"check", "one", "two"}

    # What lies here from before makes nothing run again that is done.
    said = killed.module(*CLUSTER).stdout
    assert "1 jobs, 2 stages are up to date" in said
    assert "both is done" in said
    assert (killed.folder / "both.txt").read_text(encoding="utf-8") == "one 42two"
    assert_whole(tmp_path / "remote", lock(killed))


@pytest.fixture
def others(machines, project, tmp_path) -> Iterator[None]:
    """Let the project's jobs go to two machines, which have other libraries, and processors of another class."""
    remove_all(machines)
    python = other_python(tmp_path / "python")
    machines(python=python)
    machines(python=python)
    use(project, machines.cluster.address, retries=0)
    yield
    remove_all(machines)


@pytest.mark.usefixtures("others")
def test_a_worker_with_other_library_versions_or_another_processor_class_is_refused(project, tmp_path):
    first(project, "one", "import configobj")
    first(project, "two", "from press.core import arithmetic\narithmetic.begin(arithmetic.PORTABLE, 1)")
    failed = project.module(*CLUSTER)
    assert failed.returncode == 1
    one, two, summary = failed.stderr.splitlines()[-3:]
    sentences = sorted([one.removeprefix("error: "), two.removeprefix("error: ")])
    assert re.fullmatch(
        r"one: the environment differs from requirements.lock \(configobj is 99, locked [0-9.]+\): run `make install` "
        r"\(`make logs JOB=one`\)",
        sentences[0],
    )
    assert sentences[1].startswith(
        "two: arithmetic is portable, but the libraries here compute a known product otherwise"
    )
    assert summary == "0 of 3 jobs are done and kept; the same command goes on from here"
    assert set(lock(project)["stages"]) == {"check"}
    assert not [path for path in (tmp_path / "remote").rglob("*") if path.is_file()]


def assert_whole(remote: Path, locked: dict) -> None:
    """Check that the remote has what dvc.lock says, and under no digest anything else."""
    names = {path: f"{path.parent.name}{path.name}" for path in (remote / "files/md5").glob("??/*")}
    names = {path: name for path, name in names.items() if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name)}
    for path, name in names.items():
        assert hashlib.md5(path.read_bytes()).hexdigest() == name.removesuffix(".dir")
    outs = {out["path"]: out["md5"] for stage in locked["stages"].values() for out in stage["outs"]}
    assert {digest for path, digest in outs.items() if not path.startswith("reports/")} <= set(names.values())


def test_a_search_whose_coordinator_was_killed_goes_on_to_its_front(address, project, tmp_path):
    running = tmp_path / "running"
    write_search(project, workers=2, trials=3, space={"quantize.group_size": [32, 64, 128]})
    waits = f"""
    import os, time
    if Path("quantized.txt").read_text() == "64" and not Path({str(running)!r}).exists():
        Path({str(running)!r}).write_text(str(os.getpid()))
        time.sleep({10 * SECONDS})
"""
    project.edit("stages/evaluate.py", "    size, rank", f"{waits}    size, rank")
    refused = project.module("press.search", "run", "--engine=ray")
    assert_sentence(refused, "stages/evaluate.py: not committed, but trials are built from the last commit")
    # Which is pushed to no remote of git's.
    project.commit()
    search = (sys.executable, "-m", "press.search")
    process = project.start(*search, "run", "--engine=ray")
    stage = wait_for(running)
    # Beside the one that waits, the two others are built.
    ended = list(islice((line for line in process.stdout if "package.bytes" in line), 2))
    assert sorted(re.fullmatch(r"search-\d{4} (.+); \d+ s\n", line)[1] for line in ended) == [
        "package.bytes 128, travel.onnx.adapter.loss 0.0703125; satisfies all constraints",
        "package.bytes 32, travel.onnx.adapter.loss 0.09375; misses travel.onnx.adapter.loss <= 0.09",
    ]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until_gone(stage)

    said = project.run(*search, "run", "--engine=ray").stdout
    assert "1 trials were stopped before they ended, and begin again" in said
    assert said.count(" begins: ") == 1
    rows = list(csv.DictReader((project.folder / "search/trials.csv").read_text(encoding="utf-8").splitlines()))
    by_size = {row["quantize.group_size"]: row for row in rows}
    assert {size: (row["feasible"], row["front"]) for size, row in by_size.items()} == {
        "32": ("0", "0"),
        "64": ("1", "1"),
        "128": ("1", "1"),
    }
    chosen = by_size["64"]["trial"]
    assert f"Chosen: **{chosen}**" in said
    # What another machine has built comes from the remote.
    project.run(*search, "apply", chosen)
    assert (project.folder / "packages/cpu/model.txt").read_text(encoding="utf-8") == "64"
    assert "group_size: 64 " in (project.folder / "params.yaml").read_text(encoding="utf-8")
    assert_whole(tmp_path / "remote", lock(project))


def test_a_training_on_two_nodes_takes_two_machines_that_meet(address, machines, project):
    while len(machines.cluster.worker_nodes) < 2:
        machines()
    train_on_two_nodes(project)
    said = project.module(*CLUSTER).stdout
    assert "finetune@travel: 2 machines of 1 cores, 0.1 GB after one" in said
    assert "finetune@travel | 0 of 2 met the others in" in said
    assert "finetune@travel | node 1 | 1 of 2 met the others in" in said
    places = re.findall(r"met the others in (\S+)", said)
    assert len({Path(place).parent for place in places}) == 2
    assert (project.folder / "travel.txt").read_text(encoding="utf-8") == "trained by 2"
    assert set(lock(project)["stages"]) == {"check", "one", "finetune@travel"}


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ({"address": "127.0.0.1:1"}, "params.yaml: cluster.address is '127.0.0.1:1', where no Ray cluster answers"),
        (
            {"resources": {"default": {"cpus": 1, "memory": 4, "gpus": 8}}},
            "one asks for 1 cores, 4 GB and 8 GPUs, which no machine",
        ),
    ],
)
def test_what_the_cluster_has_not_is_a_sentence(machines, project, block, sentence):
    use(project, **{"address": machines.cluster.address, **block})
    assert_sentence(project.module(*CLUSTER), sentence)


def test_there_is_one_engine_and_a_remote(project):
    refused = project.module("press.cluster", "run", "slurm")
    assert_sentence(refused, "ENGINE is 'slurm', but must be ray or azureml")
    project.run("dvc", "remote", "remove", "storage")
    assert_sentence(project.module(*CLUSTER), "jobs get their inputs from the DVC remote, and there is none")
