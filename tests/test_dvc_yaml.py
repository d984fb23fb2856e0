"""dvc.yaml names all that a stage reads, so that a change of any of it reruns the stage, and of nothing else."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from parameters import read_by

from press.core import code, paths
from press.params import reading, resolving

ROOT = Path(__file__).parents[1]
# What DVC fills in comes from params.yaml, what stages read from all that it amounts to.
GIVEN = reading.values((), ROOT / "params.yaml")
PARAMS = resolving.Resolved(ROOT / "params.yaml").values
PARAMETERS = {str(paths.RESOLVED), str(paths.RESOLVED_ADAPTERS)}
# By default there is none, so that no stage would be looked at.
for values in (GIVEN, PARAMS):
    source = {"id": "a/b", "revision": "0" * 40, "config": None, "split": "a", "data_files": []}
    values["data_sets"] = {"example": source}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
WORKING = [name for name in STAGES if name != "check"]
LISTS = ("deps", "outs", "metrics", "plots", "params")


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def at(values: dict, dotted: str) -> object:
    for key in dotted.split("."):
        values = values[key]
    return values


def contexts(stage: dict) -> Iterator[dict]:
    """Yield the names that each instance of a stage is written with: those of its foreach or matrix."""
    if "foreach" in stage:
        for key, item in at(GIVEN, stage["foreach"][2:-1]).items():
            yield {"key": key, "item": item}
    elif "matrix" in stage:
        targets, adapters = (at(GIVEN, stage["matrix"][axis][2:-1]) for axis in ("target", "adapter"))
        assert set(stage["matrix"]) == {"target", "adapter"}
        yield from ({"item": {"target": target, "adapter": adapter}} for target in targets for adapter in adapters)
    else:
        yield {}


def instances(name: str) -> list[dict]:
    """Return a stage's lists with all names put in, one for each of its instances."""
    stage = STAGES[name]
    body = stage.get("do", stage)

    def filled(value: object, context: dict) -> object:
        if isinstance(value, str):
            return re.sub(r"\$\{([\w.]+)\}", lambda match: str(at({**GIVEN, **context}, match[1])), value)
        if isinstance(value, dict):
            return {filled(key, context): filled(each, context) for key, each in value.items()}
        return [filled(each, context) for each in value] if isinstance(value, list) else value

    return [{key: filled(body.get(key, []), context) for key in LISTS} for context in contexts(stage)]


def outputs(name: str) -> dict[str, dict]:
    """Map the path of each of a stage's outputs to its options."""
    entries = [entry for one in instances(name) for key in ("outs", "metrics", "plots") for entry in one[key]]
    named = [entry if isinstance(entry, dict) else {entry: {}} for entry in entries]
    return {path: options for entry in named for path, options in entry.items()}


def parameters(name: str) -> set[str]:
    """Return which parameters a stage reads: of those that `check` writes down, and of no other file."""
    return set().union(*(read_by(one) for one in instances(name)))


def leaves(values: dict, prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def covers(some: set[str], leaf: str) -> bool:
    return any(leaf == each or leaf.startswith(f"{each}.") for each in some)


def test_no_python_file_is_listed_and_the_file_and_the_stages_scripts_fit_a_reader():
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert ".py" not in text
    assert len(text.splitlines()) <= 300
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "stages").glob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def test_the_check_stage_depends_on_all_that_it_reads():
    (one,) = instances("check")
    assert set(one["deps"]) == {"requirements.lock", "requirements-tasks.lock", *code.LOCAL}
    assert set(one["params"]) == set(GIVEN) - resolving.OUTSIDE == set(resolving.BUILD)


@pytest.mark.parametrize("name", WORKING)
def test_every_parameter_of_a_stage_exists(name):
    for leaf in parameters(name):
        at(PARAMS, leaf)


def test_every_parameter_is_read_by_a_stage_that_makes_something_of_it():
    # `check` reads all, `package` and `evaluate` whole blocks, so that alone they would prove nothing.
    used = {name: parameters(name) for name in WORKING}
    makers = set().union(*(used[name] for name in WORKING if name not in ("evaluate", "package")))
    readers = {"evaluate": "evaluate", "gates": "evaluate", "package": "package"}
    for leaf in leaves(PARAMS):
        block = leaf.split(".")[0]
        assert covers(used[readers[block]] if block in readers else makers, leaf), leaf


def test_what_is_outside_the_pipeline_reruns_no_stage():
    for name in WORKING:
        assert not [leaf for leaf in parameters(name) if leaf.split(".")[0] in resolving.OUTSIDE]


@pytest.mark.integration
def test_every_report_in_git_is_an_output():
    listed = subprocess.run(["git", "ls-files", "reports"], capture_output=True, text=True, check=True).stdout
    made = {path for name in STAGES for path in outputs(name)}
    assert not [path for path in listed.splitlines() if path not in made and str(Path(path).parent) not in made]


def test_every_stage_depends_on_its_libraries_and_its_code_as_check_writes_them_down():
    libraries, codes = ({f"reports/{kind}/{name}.txt" for name in WORKING} for kind in ("environment", "code"))
    assert set(outputs("check")) == libraries | codes | {f"reports/code/{code.MODULES}", *PARAMETERS}
    assert set(code.Project(ROOT).stages()) == set(WORKING)
    for name in WORKING:
        for one in instances(name):
            listed = {dep for dep in one["deps"] if dep.startswith(("reports/environment", "reports/code"))}
            # `package` writes down the libraries of all stages.
            of_libraries = "reports/environment" if name == "package" else f"reports/environment/{name}.txt"
            assert listed == {of_libraries, f"reports/code/{name}.txt"}


@pytest.mark.parametrize("name", STAGES)
def test_outputs_are_cached_unless_they_are_reports_and_have_runs_that_can_be_taken_back(name):
    """DVC takes no run of a stage out of its run cache that has an output which persists."""
    assert outputs(name)
    for path, options in outputs(name).items():
        assert options.get("persist", False) is (name in ("check", "fetch")), path
        assert options.get("cache", True) is not path.startswith("reports/"), path


def test_no_two_stages_make_the_same():
    paths = [path for name in STAGES for path in outputs(name)]
    assert len(paths) == len(set(paths))
    assert not [path for path in paths for other in paths if path.startswith(f"{other}/")]


@pytest.mark.parametrize("name", STAGES)
def test_every_dependency_is_the_project_s_or_another_stage_s_output(name):
    made = {path for other in STAGES if other != name for path in outputs(other)}
    for dep in {dep for one in instances(name) for dep in one["deps"]}:
        if dep.startswith(("downloads", "models", "prepared", "reports", "packages")):
            assert [path for path in made if f"{path}/".startswith(f"{dep}/") or dep.startswith(f"{path}/")], dep
        else:
            assert Path(dep).exists(), dep
