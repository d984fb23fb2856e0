"""What several tests share, and the tiers that they are in.

Three tiers, by marker (pyproject.toml); tests/tiers.py holds them by force:

    unit            `make test-unit`, under a minute on 2 cores. Functions on small values: no process, no checkpoint,
                    no model. What is not marked otherwise is in this tier, and fails where it starts a process or
                    makes a model. One file starts in about two seconds, so that a unit test imports PyTorch only if it
                    is about tensors, and never Olive or the models of transformers.
    integration     `make test` runs these and the unit tests, in at most 12 minutes on 2 cores. Tiny random models,
                    stages in their processes, git, DVC, local servers, and the whole pipeline on the preset `tiny`.
    default_model   `make test-default-model`, after `make repro`, on what that built; `.ci/run` does both.

A file says its tier in a line of its own, `pytestmark = pytest.mark.integration`, or a test in a decorator; a test that
takes a model or a project from below needs neither. A file with such a line is not even imported by `make test-unit`.

What takes long to make is made once for all workers: see `once`. What a test asks of a refusal, it asks in its own
process (`in_process`); each stage's process, a kill, a full disk and Ctrl-C are asked of real ones, once each.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import hypothesis
import pytest

from press.core import arithmetic, environment, files
from press.model import quantization
from press.params import schema, settings
from press.sources import random_model

pytest_plugins = ["tiers"]
# Before NumPy, PyTorch and Olive are loaded, which read these once: as a stage's process has them.
os.environ.update(environment.STAGE | arithmetic.VARIABLES)
# A busy machine is no failure.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")

ROOT = Path(__file__).parent.parent
TINY_LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.3,  # large enough that a wrong branch shows in the logits
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests keep what they measure, for `python -m bench.architecture_table` and `python -m bench.target_table`."""
    for name in ("architectures", "targets"):
        parser.addoption(f"--{name}-report", metavar="FOLDER", help="where to keep what is measured, a file a test")


def pytest_configure() -> None:
    # A shell that runs the tests in the background lets them, and what they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup() -> None:
    # What a test finds must not depend on the number of cores; a test that needs no PyTorch does not load it.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(2)


def once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of that name, which `build` fills once for all workers; they must not change it.

    As pytest-xdist documents it, "Making session-scoped fixtures execute only once".
    """
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    made, done = folder / name, folder / f"{name}.done"
    with filelock.FileLock(folder / f"{name}.lock"):
        if not done.exists():
            files.remove(made)
            made.mkdir()
            build(made)
            done.touch()
    return made


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama of two layers with a byte-level tokenizer, in fp32."""

    def build(folder: Path) -> None:
        random_model.build(schema.RandomSource(config=TINY_LLAMA), 0, folder)

    return once(tmp_path_factory, "tiny_base", build)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder in which stages can run: the project's passes, and nothing else."""
    (tmp_path / "passes").symlink_to(ROOT / "passes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny_quantized(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base, rounded to int4 by Olive."""

    def build(folder: Path) -> None:
        (folder / "passes").symlink_to(ROOT / "passes")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            params = settings.load(ROOT / "params.yaml").quantize.model_copy(update={"algorithm": "rtn"})
            building = folder / "building"
            building.mkdir()
            files.publish(quantization.quantize(params, tiny_base, building, 0), folder / "quantized")

    return once(tmp_path_factory, "tiny_quantized", build) / "quantized"


class Project:
    """A copy of the project in a git repository of its own, with commands to run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The tests' own interpreter first, and the copy's modules, not those installed from the original.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": "", "COLUMNS": "200"}

    def run(self, *command: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        """Run a command to its end; by default, it has to succeed."""
        result = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, **options
        )
        assert not check or result.returncode == 0, (
            f"{command} failed:\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
        )
        return result

    def start(self, *command: str, **options) -> subprocess.Popen:
        """Start a command in the background."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True, **options
        )

    def commit(self) -> None:
        """Commit everything."""
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
        self.run("git", "add", "--all")
        self.run("git", *identity, "commit", "--quiet", "--allow-empty", "--message", "test")

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace the first occurrence of a text in a file, which has to be there."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    def copy_to(self, folder: Path) -> "Project":
        """Return a copy, outputs and DVC cache included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)


def checkout(folder: Path) -> None:
    """Copy the project's own files, as they are in the working tree, into a new git repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    result = Project(folder)
    (folder / "dvc.lock").unlink(missing_ok=True)
    result.run("git", "init", "--quiet")
    result.commit()


@pytest.fixture(scope="session")
def default_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project as it is, committed, before anything has run. Copy it to change it."""
    return Project(once(tmp_path_factory, "default", lambda folder: checkout(folder / "olive-press")) / "olive-press")


@pytest.fixture(scope="session")
def project(default_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with the tiny preset, committed, before anything has run. Copy it to change it."""

    def build(folder: Path) -> None:
        result = default_project.copy_to(folder / "olive-press")
        result.run(sys.executable, "-m", "press.params.preset", "tiny")
        result.commit()

    return Project(once(tmp_path_factory, "project", build) / "olive-press")


@pytest.fixture(scope="session")
def built(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with the tiny preset after `dvc repro`. Copy it to change it."""

    def build(folder: Path) -> None:
        result = project.copy_to(folder / "olive-press")
        result.run("dvc", "repro")
        result.commit()

    return Project(once(tmp_path_factory, "built", build) / "olive-press")


@pytest.fixture
def copy(built: Project, tmp_path) -> Project:
    """A built project of the test's own."""
    return built.copy_to(tmp_path / "olive-press")


def stages_run(project: Project) -> set[str]:
    """Run `dvc repro` and return the stages that it ran."""
    return set(re.findall(r"^Running stage '(.+)':$", project.run("dvc", "repro").stdout, re.MULTILINE))


def stale(project: Project) -> set[str]:
    """Return the stages whose own dependencies changed."""
    return set(json.loads(project.run("dvc", "status", "--json").stdout))


def stage(words: str) -> list[str]:
    """Return the command line of a stage."""
    name, *rest = words.split()
    return [sys.executable, "-m", f"stages.{name}", *rest]


def assert_sentence(result: subprocess.CompletedProcess, *parts: str) -> None:
    """Check for exit code 1 and one sentence on stderr that has all the parts."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    # A progress bar may stand before it in the same line.
    errors = [line for line in result.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1, result.stderr
    for part in parts:
        assert part in errors[0]
