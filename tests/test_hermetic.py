"""No hidden inputs, no hidden state: each stage, alone with what dvc.yaml says that it reads, gives the same bytes.

Every stage of the tiny preset runs once more in another folder that holds its dependencies and nothing else, where
every parameter that it does not name has another value, as another user with an empty home, without a network, on
another day, in another time zone and locale, and with another hash seed. tests/stages_alone.py runs them.
"""

import ast
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from parameters import WITHOUT, disguised, read_by, written
from projects import ROOT, Project

from press.core import arithmetic, code, environment, files, paths
from press.params import recorded, resolving, settings

pytestmark = pytest.mark.integration
STAGES = list(yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"])
CLOCK = """
import time_machine

time_machine.travel("2031-02-03T04:05:06+00:00").start()
"""


def leaves(values: dict, prefix: str = "") -> dict[str, object]:
    """Map the dotted path of every parameter to its value."""
    found = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        whole = not isinstance(value, dict) or path.endswith((".config", ".fields", ".response_schema"))
        found |= {path: value} if whole else leaves(value, f"{path}.")
    return found


def test_every_parameter_has_another_value_here(project, tmp_path):
    params = resolving.Resolved(project.folder / "params.yaml").values
    settings.load(written(tmp_path, disguised(params, set())))
    other, given = leaves(disguised(params, set())), leaves(params)
    # By default there is no data set of the hub.
    other = {name: value for name, value in other.items() if not name.startswith("data_sets.")}
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


def elsewhere(place: Path) -> dict[str, str]:
    """Return an environment that shares nothing with this one but the interpreter and the libraries."""
    for name in ("home", "tmp", "clock"):
        (place / name).mkdir()
    (place / "clock/sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    own = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "PYTHONPATH": str(place / "clock"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "LOGNAME": "somebody",
        "USER": "somebody",
        "TZ": "Asia/Tokyo",
    }
    # What a stage sets itself, since libraries read it when they are loaded.
    return arithmetic.variables(environment.STAGE | kept | proxies | own)[0]


def of_code(built: Project, name: str) -> set[str]:
    """Return the paths of the code that `check` takes a stage to use, and of the front door."""
    project = code.Project(built.folder)
    script = Path(f"stages/{name}.py")
    modules = {code.GIVEN, *project.digests(name), *project.uses(script, through_front_door=True)}
    doors = code.FRONT_DOOR.union(*(project.uses(path, through_front_door=True) for path in code.FRONT_DOOR))
    beside = {f"{path.parent}/{text}" for path in modules for text in texts(project, path)}
    found = {path.as_posix() for path in modules | doors} | {path for path in beside if (built.folder / path).is_file()}
    return found | {"passes/olive.json"}


def texts(project: code.Project, path: Path) -> set[str]:
    nodes = ast.walk(project.tree(path))
    found = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    # No docstring, which may be longer than a path may be.
    return {text for text in found if "." in text and "\n" not in text and len(text) < 100}


def isolated(built: Project, stage: dict, name: str, folder: Path) -> None:
    """Fill a folder with what a stage reads, as dvc.lock records it, and nothing else."""
    for path in {dep["path"] for dep in stage["deps"]} | (set() if name == code.CHECK else of_code(built, name)):
        source, target = built.folder / path, folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    if name == code.CHECK:
        shutil.copyfile(built.folder / "params.yaml", folder / "params.yaml")
    else:
        params = resolving.Resolved(built.folder / paths.PARAMS).values
        path = written(folder, disguised(params, read_by(stage)))
        recorded.write(resolving.Resolved(path).values, folder)
    if stage["cmd"].endswith("stages.check"):
        # It looks for the data files, not into them.
        (folder / "data").mkdir()
        for path in (built.folder / "data").iterdir():
            (folder / "data" / path.name).touch()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has one for each stage."""
    return tmp_path_factory.mktemp("another place")


@pytest.fixture(scope="module")
def before(built: Project, place: Path) -> dict[str, dict[str, str]]:
    """The digests of what each stage reads, in its folder."""
    stages = yaml.safe_load((built.folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert set(stages) == set(STAGES)
    for name in STAGES:
        isolated(built, stages[name], name.partition("@")[0], place / name)
    return {name: files.digests(place / name) for name in STAGES}


@pytest.fixture(scope="module")
def ended(built: Project, before: dict, place: Path) -> dict[str, dict]:
    """How each stage ended."""
    stages = yaml.safe_load((built.folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    asked = [[str(place / name), stages[name]["cmd"].removeprefix("python -m stages.")] for name in STAGES]
    command = [*isolation(), sys.executable, str(ROOT / "tests/stages_alone.py"), json.dumps(asked)]
    result = subprocess.run(command, env=elsewhere(place), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    return dict(zip(STAGES, map(json.loads, result.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_alone_gives_the_same_bytes_anywhere(built, before, ended, place, name):
    said = (place / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    assert ended[name] == {"code": 0, "left": []}, said[-4000:]
    stages = yaml.safe_load((built.folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    outs = [Path(out["path"]) for out in stages[name]["outs"]]
    made = {path: digest for path, digest in files.digests(place / name).items() if before[name].get(path) != digest}
    assert made == {
        path: digest
        for path, digest in files.digests(built.folder).items()
        if any(Path(path).is_relative_to(out) for out in outs)
    }
