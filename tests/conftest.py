"""What several tests share, and the tiers that they are in.

Four tiers, by marker (pyproject.toml); tests/tiers.py holds them by force:

    unit            `make test-unit`, under a minute on 2 cores. Functions on small values: no process, no checkpoint,
                    no model. What is not marked otherwise is in this tier, and fails where it starts a process or
                    makes a model. One file starts in about two seconds, so that a unit test imports PyTorch only if it
                    is about tensors, and never Olive or the models of transformers.
    integration     `make test` runs these and the unit tests, in at most 12 minutes on 2 cores. Tiny random models,
                    stages in their processes, git, DVC, local servers, and the whole pipeline on the preset `tiny`.
    emulated        a tiny model built on a processor that qemu emulates, and products on another, two minutes of
                    processor time, by `.ci/run`; the model on three of them by `make test-emulated`.
    default_model   `make test-default-model`, after `make repro`, on what that built; `.ci/run` does both.

A file says its tier in a line of its own, `pytestmark = pytest.mark.integration`, or a test in a decorator; a test that
takes a model or a project from below needs neither. A file with such a line is not even imported by `make test-unit`,
where one that imports Olive or the models of transformers fails.

What takes long to make is made once for all workers: see `once`. What a test asks of a refusal, it asks in its own
process (`in_process`, `module`); each stage's process, a kill, a full disk and Ctrl-C are asked of real ones, once.
"""

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import stand_in
from projects import ROOT, Project, checkout, once, without_arithmetic

from press.core import arithmetic, cli, environment, files
from press.model import quantization
from press.params import schema, settings
from press.sources import random_model, tokenizers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

pytest_plugins = ["tiers"]
# Before NumPy, PyTorch and Olive are loaded, which read these once: as a stage's process has them.
assert not {"numpy", "torch"} & sys.modules.keys(), "what this file imports loads NumPy or PyTorch"
os.environ.update(environment.STAGE | arithmetic.VARIABLES)
# Before the first product on a GPU, which may be that of another test than of the training that asks for it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
cli.collect_rarely()
# A busy machine is no failure.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")

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


FEW_MODULES = 50
_lightened = [0]  # how many modules there were when what is imported was last left out of the search

# Files that take longest come first, so that no worker is left alone with one. Among them, those come first that wait
# for servers and machines, while another process has the processor; the last of them fill two cores by themselves.
LONGEST = (
    "tests/test_portable.py",
    "tests/press/cluster/test_cluster.py",
    "tests/press/release/test_azureml.py",
    "tests/test_nodes.py",
    "tests/press/cluster/test_azureml_engine.py",
    "tests/test_whole_on_azureml.py",
    "tests/press/release/test_storage.py",
    "tests/press/release/test_oci.py",
    "tests/press/release/test_publish.py",
    "tests/test_failures.py",
    "tests/press/search/test_search.py",
    "tests/press/sources/test_hub.py",
    "tests/test_hermetic.py",
    "tests/test_reruns.py",
    "tests/test_price_of_change.py",
    "tests/press/release/test_bundle.py",
    "tests/passes/test_awq_processes.py",
    "tests/press/training/test_finetuning.py",
    "tests/passes/test_awq.py",
    "tests/test_architectures.py",
    "tests/press/model/test_quantization.py",
    "tests/test_pipeline.py",
    "tests/test_app.py",
    "tests/press/verify/test_verify.py",
    "tests/test_tiers.py",
    "tests/press/training/test_pair_finetuning.py",
    "tests/test_targets.py",
    "tests/press/core/test_cache.py",
    "tests/press/report/test_report.py",
    "tests/press/search/test_study.py",
    "tests/press/search/test_on_cluster.py",
    "tests/press/sources/test_azureml.py",
    "tests/passes/test_awq_refusals.py",
    "tests/press/test_doctor.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    assert not (gone := [name for name in LONGEST if not (ROOT / name).is_file()]), gone
    place = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


def pytest_runtest_setup() -> None:
    # What a test finds must not depend on the number of cores; a test that needs no PyTorch does not load it.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(2)
    _lighten()


def _lighten() -> None:
    """Spare this process two searches through all that it has imported, each a quarter of a second of processor time.

    After its passes and trainings, Olive looks for reference cycles; and when it begins, it looks for the module of
    each caller, for telemetry which is disabled: pytest has forty, a stage has ten.
    """
    if len(sys.modules) - _lightened[0] > FEW_MODULES:
        gc.freeze()
        _lightened[0] = len(sys.modules)
    if telemetry := sys.modules.get("olive.telemetry.telemetry_extensions"):
        telemetry._resolve_invoked_from = lambda: "tests"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama of two layers with a byte-level tokenizer, in fp32."""

    def build(folder: Path) -> None:
        random_model.build(schema.RandomSource(config=TINY_LLAMA), 0, folder)

    return once(tmp_path_factory, "tiny_base", build)


@pytest.fixture
def starting() -> "PreTrainedTokenizerBase":
    """A byte-level tokenizer that puts a token before every text, as Gemma's does."""
    from tokenizers import processors

    tokenizer = tokenizers.of_bytes()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)]
    )
    return tokenizer


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
def hollow(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with the tiny preset after `dvc repro`, with a stand-in for each stage: it asks of DVC what dvc.yaml
    makes it do, and of no model anything. Copy it to change it."""

    def build(folder: Path) -> None:
        result = project.copy_to(folder / "olive-press")
        shutil.copyfile(ROOT / "tests/stand_in.py", result.folder / "stand_in.py")
        # It writes the lists that its stand-in copies.
        without_arithmetic(result)
        result.run(sys.executable, "-m", "stages.check")
        for name in stand_in.LISTS:
            shutil.copytree(result.folder / name, result.folder / stand_in.KEPT / name)
        for path in (result.folder / "stages").glob("[a-z]*.py"):
            path.write_text(f'import stand_in\n\nstand_in.work("{path.stem}")\n', encoding="utf-8")
        result.run("dvc", "repro")
        result.commit()

    return Project(once(tmp_path_factory, "hollow", build) / "olive-press")


@pytest.fixture(scope="session")
def built(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with the tiny preset as `dvc repro` builds it. Copy it to change it.

    Each stage runs in this process, whose imports are done, as DVC would run it in one of its own. The bytes that a
    process gives are compared with these by tests/test_hermetic.py.
    """

    def build(folder: Path) -> None:
        from dvc.repo import Repo

        result = project.copy_to(folder / "olive-press")
        # In the order of dvc.yaml, which is that of the pipeline.
        with Repo(result.folder) as repo:
            commands = [each.cmd for each in repo.index.stages]
        for command in commands:
            ended = result.in_process(command.removeprefix("python -m stages."))
            assert ended.returncode == 0, ended.stderr
        # Which fails where a stage has not written all that dvc.yaml says.
        result.run("dvc", "commit", "--force", "--quiet")
        result.commit()

    return Project(once(tmp_path_factory, "built", build) / "olive-press")


@pytest.fixture
def copy(built: Project, tmp_path: Path) -> Project:
    """A built project of the test's own."""
    return built.copy_to(tmp_path / "olive-press")


@pytest.fixture
def hollow_copy(hollow: Project, tmp_path: Path) -> Project:
    """A hollow project of the test's own."""
    return hollow.copy_to(tmp_path / "olive-press")
