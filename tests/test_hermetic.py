"""No hidden inputs, no hidden state: each stage, alone with what dvc.yaml says that it reads, gives the same bytes.

Every stage of the tiny preset runs once more in another folder that holds its dependencies and nothing else, where
every parameter that it does not name has another value, as another user with an empty home, without a network, on
another day, in another time zone and locale, and with another hash seed.
"""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Project, stage

from press.core import files
from press.params import settings

pytestmark = pytest.mark.pipeline
STAGES = list(yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"])
# Another valid value of every parameter, to set it to where a stage does not name it.
OTHERS = {
    "seed": 7,
    "threads": 1,
    "device": "cpu",
    "base.source": "local",
    "base.package": {
        "name": "other",
        "version": "9",
        "sha256": "0" * 64,
        "gguf": "other.gguf",
        "model": "other/model",
        "license": "other",
        "language": ["fr"],
    },
    "base.local": {"path": "other", "sha256": "0" * 64},
    "base.hub": {"id": "other/model", "revision": "0" * 40},
    "base.azureml.uri": "azureml://registries/other/models/other/versions/9",
    "base.random.config": {"model_type": "gpt2"},
    "base.trust_remote_code": True,
    "quantize.algorithm": "rtn",
    "quantize.bits": 8,
    "quantize.group_size": 64,
    "quantize.symmetric": True,
    "quantize.mixed_precision.share": 0.5,
    "quantize.awq": {
        "grid_points": 3,
        "search_rows": 1,
        "clip": False,
        "clip_modules": ["o_proj"],
        "rounding": "nearest",
        "damping": 0.5,
    },
    "quantize.calibration": {"data": "data/other.jsonl", "rows": 1, "row_tokens": 16},
    "adapters.*.data": "data/other.jsonl",
    "adapters.*.template": "{other}: {response}",
    "adapters.*.max_seq_len": 8,
    "adapters.*.too_long": "skip",
    "adapters.*.heldout": 0.5,
    "adapters.*.response_schema": {"type": "string"},
    "adapters.*.samples": ["other"],
    "adapters.*.lora": {"method": "rslora", "rank": 1, "alpha": 1, "dropout": 0.5, "target_modules": ["o_proj"]},
    "adapters.*.training": {
        "max_steps": 1,
        "batch_size": 4,
        "processes": 2,
        "gradient_accumulation": 3,
        "gradient_checkpointing": True,
        "learning_rate": 1.0,
        "schedule": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.5,
        "response_only": False,
        "checkpoint_every": 1,
    },
    "targets.*.device": "gpu",
    "targets.*.provider": "CUDAExecutionProvider",
    "targets.*.precision": "float",
    "targets.*.block_size": 128,
    "targets.*.accuracy_level": 1,
    "targets.*.adapters": "dora",
    "evaluate.max_new_tokens": 1,
    "evaluate.general": {"data": "data/other-text.jsonl", "rows": 1, "row_tokens": 16},
    "evaluate.tasks": {"names": ["other"], "folder": "data/other", "limit": 1},
    "gates": [],
    "package.name": "other",
    "package.description": "other",
}
# The blocks that say what is built; the others are left out.
BUILD = set(settings.Settings.model_fields)
# Of 8 bits, no layer can have more.
WITHOUT = ["quantize.mixed_precision.method"]
# What another parameter leaves no choice about.
FOLLOWS = {"targets.*.device": "targets.*.provider"}
CLOCK = """
import time_machine

time_machine.travel("2031-02-03T04:05:06+00:00").start()
"""


def covers(some: set[str], name: str) -> bool:
    return any(f"{name}.".startswith(f"{each}.") for each in some)


def disguised(params: dict, named: set[str]) -> dict:
    """Return params.yaml's values, all others than given, but for those that `named` covers."""
    result = {block: values for block, values in yaml.safe_load(yaml.safe_dump(params)).items() if block in BUILD}
    for pattern, other in OTHERS.items():
        block, star, rest = pattern.partition(".*.")
        for name in params[block] if star else [""]:
            path = f"{block}.{name}.{rest}" if star else pattern
            follows = FOLLOWS.get(pattern, pattern).replace("*", name)
            if not covers(named, path) and not covers(named, follows):
                *parents, leaf = path.split(".")
                functools.reduce(dict.__getitem__, parents, result)[leaf] = other
    return result


def leaves(values: dict, prefix: str = "") -> dict[str, object]:
    """Map the dotted path of every parameter to its value."""
    found = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        whole = not isinstance(value, dict) or path.endswith((".config", ".response_schema"))
        found |= {path: value} if whole else leaves(value, f"{path}.")
    return found


def test_every_parameter_has_another_value_here(project, tmp_path):
    params = yaml.safe_load((project.folder / "params.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(disguised(params, set())), encoding="utf-8")
    settings.load(path)
    other = leaves(disguised(params, set()))
    given = leaves({block: params[block] for block in BUILD})
    assert set(other) == set(given)
    assert [name for name, value in given.items() if other[name] == value] == WITHOUT


@functools.cache
def isolation() -> list[str]:
    """Return the words before a command that take its network and its user away, where the system can do that."""
    words = ["unshare", "--net", "--map-user=1234", "--map-group=1234"]
    try:
        subprocess.run([*words, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return words


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """An environment that shares nothing with this one but the interpreter and the libraries."""
    for name in ("home", "tmp", "clock"):
        (tmp_path / name).mkdir()
    (tmp_path / "clock/sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return (
        kept
        | proxies
        | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
            "HOME": str(tmp_path / "home"),
            "TMPDIR": str(tmp_path / "tmp"),
            "PYTHONPATH": str(tmp_path / "clock"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "7",
            "LC_ALL": "C",
            "LOGNAME": "somebody",
            "USER": "somebody",
            "TZ": "Asia/Tokyo",
        }
    )


def isolated(built: Project, recorded: dict, folder: Path) -> None:
    """Fill a folder with what a stage reads, as dvc.lock records it, and nothing else."""
    for dep in recorded["deps"]:
        source, target = built.folder / dep["path"], folder / dep["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    for package in ("passes", "passes/activation_aware", "press", "stages"):
        (folder / package).mkdir(exist_ok=True, parents=True)
        (folder / package / "__init__.py").touch()
    named = recorded.get("params", {})
    params = yaml.safe_load((built.folder / "params.yaml").read_text(encoding="utf-8"))
    named_params = set(named.get("params.yaml", {}))
    (folder / "params.yaml").write_text(yaml.safe_dump(disguised(params, named_params)), encoding="utf-8")
    passes = {name.removeprefix("passes."): entry for name, entry in named.get("passes/olive.json", {}).items()}
    if passes:
        files.write_json(folder / "passes/olive.json", {"passes": passes})
    if recorded["cmd"].endswith("stages.check"):
        # It looks for the data files, not into them.
        (folder / "data").mkdir()
        for path in (built.folder / "data").iterdir():
            (folder / "data" / path.name).touch()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_alone_gives_the_same_bytes_anywhere(built, elsewhere, tmp_path, name):
    stages = yaml.safe_load((built.folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert set(stages) == set(STAGES)
    folder = tmp_path / "another place"
    isolated(built, stages[name], folder)
    before = files.digests(folder)
    command = [*isolation(), *stage(stages[name]["cmd"].removeprefix("python -m stages."))]
    result = subprocess.run(command, cwd=folder, env=elsewhere, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    outs = [Path(out["path"]) for out in stages[name]["outs"]]
    made = {path: digest for path, digest in files.digests(folder).items() if before.get(path) != digest}
    assert made == {
        path: digest
        for path, digest in files.digests(built.folder).items()
        if any(Path(path).is_relative_to(out) for out in outs)
    }
    assert files.digests(tmp_path / "home") == files.digests(tmp_path / "tmp") == {}
