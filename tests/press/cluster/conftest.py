"""A pipeline of three stages that load no model, and a Ray cluster of three machines on loopback.

The machines have nothing in common but the DVC remote: each has a folder of its own for its jobs and their cache.
"""

import os
import shutil
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import ROOT, Project, once, without_arithmetic

from press.cluster import worker
from press.core import paths

STAGE = '''"""{name}."""

import json
from pathlib import Path

from press.core import cli
from press.params import settings

{main}

if __name__ == "__main__":
    cli.run(main)
'''
MAIN = """
def main() -> None:
    seed = settings.checked().seed
    Path("{name}.txt").write_text({text}, encoding="utf-8")
    Path("reports/{name}.json").write_text(json.dumps(seed), encoding="utf-8")
"""
# How long a process may take to end: less than a stage that waits to be killed sleeps.
SECONDS = 60
# What each writes, and whose output it reads.
STAGES = {
    "one": ('f"one {seed}"', []),
    "two": ('"two"', []),
    "both": ('Path("one.txt").read_text() + Path("two.txt").read_text()', ["one", "two"]),
}


def three() -> dict[str, dict]:
    """Return the three stages as dvc.yaml has them."""
    return {
        name: {
            "cmd": f"python -m stages.{name}",
            "params": [{str(paths.RESOLVED): ["seed"]}],
            "deps": [*(f"{each}.txt" for each in reads), f"reports/code/{name}.txt"],
            "outs": [f"{name}.txt", {f"reports/{name}.json": {"cache": False}}],
        }
        for name, (_, reads) in STAGES.items()
    }


def write_stage(project: Project, name: str, main: str) -> None:
    """Write a stage's script around its `main`."""
    (project.folder / f"stages/{name}.py").write_text(STAGE.format(name=name, main=main), encoding="utf-8")


def write_pipeline(folder: Path, stages: dict[str, dict]) -> None:
    """Write dvc.yaml with the project's `check` and some stages."""
    check = yaml.safe_load((ROOT / paths.PIPELINE).read_text(encoding="utf-8"))["stages"]["check"]
    lists = {f"reports/{kind}/{name}.txt" for kind in ("code", "environment") for name in stages}
    lists |= {"reports/code/modules.txt", str(paths.RESOLVED), str(paths.RESOLVED_ADAPTERS)}
    check["outs"] = [{path: {"cache": False, "persist": True}} for path in sorted(lists)]
    (folder / paths.PIPELINE).write_text(
        yaml.safe_dump({"stages": {"check": check, **stages}}, sort_keys=False), encoding="utf-8"
    )


@pytest.fixture(scope="session")
def three_stages(default_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with the three stages, which have not run. Copy it to change it."""

    def build(folder: Path) -> None:
        project = default_project.copy_to(folder / "olive-press")
        for path in (project.folder / "stages").glob("[a-z]*.py"):
            if path.stem != "check":
                path.unlink()
        shutil.rmtree(project.folder / "reports")
        for name, (text, _) in STAGES.items():
            write_stage(project, name, MAIN.format(name=name, text=text))
        write_pipeline(project.folder, three())
        without_arithmetic(project)
        ignored = "".join(f"/{name}.txt\n" for name in STAGES)
        (project.folder / ".gitignore").write_text(ignored + (ROOT / ".gitignore").read_text(encoding="utf-8"))
        project.commit()

    return Project(once(tmp_path_factory, "three-stages", build) / "olive-press")


@pytest.fixture
def project(three_stages: Project, tmp_path: Path) -> Project:
    """Three stages of the test's own, with a remote of their own."""
    result = three_stages.copy_to(tmp_path / "olive-press")
    result.run("dvc", "remote", "add", "--force", "--default", "storage", str(tmp_path / "remote"))
    return result


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Start machines of a Ray cluster, each with a folder of its own; its head runs no jobs."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    utilities = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed (`make install-cluster`)")
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = utilities.Cluster(initialize_head=True, head_node_args=head)

    def add(cpus: int = 1, home: Path | None = None, python: str = sys.executable) -> Any:
        folder = home or tmp_path_factory.mktemp("machine")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", python)
            return cluster.add_node(num_cpus=cpus, memory=2 * 10**9, env_vars={worker.HOME: str(folder)})

    add.cluster = cluster
    yield add
    cluster.shutdown()


def other_python(folder: Path) -> str:
    """Make the Python of a machine with another version of a library, and with a processor of another class.

    That is what NumPy's library takes it for: one without AVX2.
    """
    venv.create(folder)
    packages = next(folder.glob("lib/python*/site-packages"))
    upgraded = packages / "configobj-99.dist-info"
    upgraded.mkdir()
    (upgraded / "METADATA").write_text("Metadata-Version: 2.1\nName: configobj\nVersion: 99\n", encoding="utf-8")
    # After Python has read its variables, so that a stage cannot see it.
    lines = [
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})",
        "import ctypes; ctypes.CDLL(None).setenv(b'OPENBLAS_CORETYPE', b'Nehalem', 1)",
    ]
    (packages / "other.pth").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "bin/python")


def configure(project: Project, block: dict[str, object]) -> None:
    """Give keys of the block `cluster` of params.yaml other values."""
    params = project.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    above, _, rest = text.partition("cluster:")
    _, _, below = rest.partition("\n\n")
    block = {**yaml.safe_load(text)["cluster"], **block}
    params.write_text(f"{above}{yaml.safe_dump({'cluster': block})}\n{below}", encoding="utf-8")


def first(project: Project, stage: str, code: str) -> None:
    """Let a stage run some code before its own."""
    code = "".join(f"    {line}\n" for line in code.strip().splitlines())
    project.edit(f"stages/{stage}.py", "    seed = settings", f"{code}    seed = settings")


def lock(project: Project) -> dict:
    return yaml.safe_load((project.folder / "dvc.lock").read_text(encoding="utf-8"))


def wait_until_gone(process: str) -> None:
    """Wait until a process has ended, whether or not anybody has waited for it; fail if it runs on."""
    end = time.monotonic() + SECONDS
    while command := _command(process):
        assert time.monotonic() < end, f"{command} runs on"
        time.sleep(0.05)


def _command(process: str) -> bytes:
    try:
        return Path("/proc", process, "cmdline").read_bytes()
    except OSError:
        return b""


# A stand-in for a training: all that its nodes have to do with each other.
FINETUNE = '''"""finetune."""

from pathlib import Path

from press.core import cli
from press.model import meeting, nodes
from press.params import settings


def main(adapter: str) -> None:
    node = nodes.here(adapter, settings.checked().adapter(adapter).training.nodes)
    with meeting.meeting(node, Path("one.txt").read_text(encoding="utf-8")):
        print(f"{node.rank} of {node.count} met the others in {Path.cwd()}")
    if node.rank == 0:
        Path(f"{adapter}.txt").write_text(f"trained by {node.count}", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
'''


def train_on_two_nodes(project: Project) -> None:
    """Let the pipeline be `one` and a training of an adapter."""
    (project.folder / "stages/finetune.py").write_text(FINETUNE, encoding="utf-8")
    with (project.folder / ".gitignore").open("a", encoding="utf-8") as ignored:
        ignored.write("/travel.txt\n")
    pipeline = yaml.safe_load((project.folder / paths.PIPELINE).read_text(encoding="utf-8"))
    lists = [f"reports/{kind}/finetune.txt" for kind in ("code", "environment")]
    pipeline["stages"]["check"]["outs"] += [{path: {"cache": False, "persist": True}} for path in lists]
    stage = {
        "cmd": "python -m stages.finetune ${item}",
        "params": [{"reports/adapters/${item}.json": ["training"]}],
        "deps": ["one.txt", lists[0]],
        "outs": ["${item}.txt"],
    }
    pipeline["stages"] = {name: pipeline["stages"][name] for name in ("check", "one")}
    pipeline["stages"]["finetune"] = {"foreach": ["travel"], "do": stage}
    (project.folder / paths.PIPELINE).write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    project.edit("params.yaml", "    batch_size: 2 ", "    nodes: 2\n    batch_size: 2 ")
