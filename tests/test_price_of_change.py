"""What an edit of the code reruns, asked of DVC with a pipeline of two stages that load no model.

`check` and all that it calls are the project's own, as are the frame of the stages and the search's way to run trials.
"""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from projects import ROOT, Project, assert_sentence, once, stages_run, without_arithmetic

from press.core import paths

pytestmark = pytest.mark.integration
RESOLVED = str(paths.RESOLVED)
STAGE = '''"""{name}."""

from pathlib import Path

from press.core import cli
from press.params import settings
from press.toy import {module}


def main() -> None:
    Path("{name}.txt").write_text({module}.say(settings.checked()), encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
'''
MODULES = {
    "counting": "# Counts.\n\n\ndef say(params):\n    return str(params.seed)\n",
    "naming": '"""Names."""\n\n\ndef say(params):\n    return params.package.name\n',
    "unused": "WORD = 'a word'\n",
}
PIPELINE = {
    "count": {"params": ["seed"], "module": "counting"},
    "name": {"params": ["package.name"], "module": "naming"},
}


def write_pipeline(folder: Path) -> None:
    """Write dvc.yaml with the project's `check` and the two stages."""
    check = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["check"]
    lists = {f"reports/{kind}/{name}.txt" for kind in ("code", "environment") for name in PIPELINE}
    lists |= {"reports/code/modules.txt", RESOLVED, str(paths.RESOLVED_ADAPTERS)}
    check["outs"] = [{path: {"cache": False, "persist": True}} for path in sorted(lists)]
    stages = {
        name: {
            "cmd": f"python -m stages.{name}",
            "params": [{RESOLVED: spec["params"]}],
            "deps": [f"reports/code/{name}.txt", f"reports/environment/{name}.txt"],
            "outs": [f"{name}.txt"],
        }
        for name, spec in PIPELINE.items()
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"check": check, **stages}}), encoding="utf-8")


@pytest.fixture(scope="module")
def small(default_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the small pipeline, built and committed."""
    return Project(once(tmp_path_factory, "small", lambda folder: build(default_project, folder)) / "project")


def build(default_project: Project, folder: Path) -> None:
    project = default_project.copy_to(folder / "project")
    for path in (project.folder / "stages").glob("*.py"):
        if path.name not in ("__init__.py", "check.py"):
            path.unlink()
    shutil.rmtree(project.folder / "reports")
    (project.folder / "press/toy").mkdir()
    (project.folder / "press/toy/__init__.py").touch()
    for name, text in MODULES.items():
        (project.folder / f"press/toy/{name}.py").write_text(text, encoding="utf-8")
    for name, spec in PIPELINE.items():
        text = STAGE.format(name=name, module=spec["module"])
        (project.folder / f"stages/{name}.py").write_text(text, encoding="utf-8")
    write_pipeline(project.folder)
    without_arithmetic(project)
    project.run("dvc", "repro")
    project.commit()


@pytest.fixture
def project(small: Project, tmp_path: Path) -> Project:
    return small.copy_to(tmp_path / "project")


def moved(project: Project) -> None:
    (project.folder / "press/far").mkdir()
    (project.folder / "press/far/__init__.py").touch()
    (project.folder / "press/toy/counting.py").rename(project.folder / "press/far/numbers.py")
    project.edit("stages/count.py", "from press.toy import counting", "from press.far import numbers as counting")


def new_validator(project: Project) -> None:
    project.edit(
        "press/params/settings.py",
        '    @field_validator("adapters")\n',
        '    @field_validator("seed")\n    @classmethod\n    def seed_is_lucky(cls, seed):\n'
        '        if seed == 13:\n            raise ValueError("seed is 13, which is unlucky")\n        return seed\n\n'
        '    @field_validator("adapters")\n',
    )


def new_knob(project: Project) -> None:
    project.edit("press/params/schema.py", "    description: str\n", "    description: str\n    colour: str\n")
    project.edit("params.yaml", "  description: ", "  colour: green\n  description: ")


def test_edits_that_say_nothing_new_to_a_stage_rerun_nothing_but_check(project):
    """All at once: tests/press/core/test_code.py asks for each kind."""
    project.edit("press/toy/counting.py", "# Counts.", "# Counts and counts.")
    project.edit("press/toy/naming.py", '"""Names."""', '"""Gives names."""')
    project.edit("press/toy/counting.py", "str(params.seed)", "str(\n        params.seed)")
    moved(project)
    new_validator(project)
    project.edit("press/params/schema.py", "a folder name: up to", "a name: up to")
    new_knob(project)
    project.edit("press/toy/unused.py", "a word", "words")
    assert "check" in project.run("dvc", "status").stdout
    assert stages_run(project) == {"check"}
    assert project.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


def test_a_changed_function_reruns_the_stages_that_use_it(project):
    project.edit("press/toy/counting.py", "str(params.seed)", "str(params.seed + 0)")
    assert stages_run(project) == {"check", "count"}
    # A reviewer sees by the diff which module changed, and which stages that reaches.
    changed = project.run("git", "diff", "--name-only", "--", str(paths.CODE)).stdout.split()
    assert changed == ["reports/code/count.txt", "reports/code/modules.txt"]
    lines = project.run("git", "diff", "--unified=0", "--", "reports/code/modules.txt").stdout.splitlines()
    modules = {line.split()[-1] for line in lines if re.match(r"^\+[0-9a-f]{64}", line)}
    assert modules == {"press/toy/counting.py", "stages/count.py"}
    project.edit("press/core/environment.py", '"CI": "1"', '"CI": "true"')
    assert stages_run(project) == {"check", "count", "name"}


def test_a_changed_parameter_reruns_the_stages_that_read_it(project):
    project.edit("params.yaml", "seed: 42", "seed: 7")
    assert stages_run(project) == {"check", "count"}


def test_a_changed_default_reruns_the_stages_that_read_it_and_dvc_shows_it(project):
    # It comes with an unsaid package.name.
    project.edit("params.yaml", "  name: olive-press ", "  # none: ")
    assert stages_run(project) == {"check"}
    project.commit()
    project.edit("press/params/defaults.yaml", "  name: olive-press ", "  name: another ")
    assert stages_run(project) == {"check", "name"}
    assert (project.folder / "name.txt").read_text(encoding="utf-8") == "another"
    shown = project.run("dvc", "params", "diff").stdout.splitlines()
    assert [line.split() for line in shown[1:]] == [[RESOLVED, "package.name", "olive-press", "another"]]


def test_a_parameter_that_check_has_not_seen_is_refused(project):
    project.edit("params.yaml", "seed: 42", "seed: 7")
    refused = project.run("dvc", "repro", "--single-item", "--force", "count", check=False)
    assert refused.returncode == 255
    sentence = "error: what params.yaml says is not what reports/params.json has: run `dvc repro` without --single-item"
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
    project.run("dvc", "checkout", "count")
    assert stages_run(project) == {"check", "count"}


def test_an_experiment_sets_what_params_yaml_does_not_say(project):
    words = ("dvc", "exp", "run", "--name", "named", "--set-param")
    project.edit("params.yaml", "  name: olive-press ", "  # none: ")
    project.run("dvc", "repro")
    project.commit()
    refused = project.run(*words, "package.name=another", check=False)
    assert "To append to your config use +package.name=another" in refused.stderr
    project.run(*words, "+package.name=another")
    assert (project.folder / "name.txt").read_text(encoding="utf-8") == "another"


def test_a_new_import_is_found_without_an_edit_of_dvc_yaml(project):
    project.edit("press/toy/counting.py", "# Counts.\n", "from press.toy import unused\n")
    project.edit("press/toy/counting.py", "str(params.seed)", "unused.WORD")
    assert stages_run(project) == {"check", "count"}
    project.edit("press/toy/unused.py", "a word", "another word")
    assert stages_run(project) == {"check", "count"}
    assert (project.folder / "count.txt").read_text(encoding="utf-8") == "another word"


def test_code_that_check_has_not_seen_is_refused(project):
    project.edit("press/toy/counting.py", "params.seed", "params.threads")
    refused = project.run("dvc", "repro", "--single-item", "--force", "count", check=False)
    assert refused.returncode == 255
    sentence = "error: the code of count is not what reports/code/count.txt says: run `dvc repro` without --single-item"
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
    assert_sentence(project.run("python", "-m", "stages.count", check=False), "the code of count is not")
    # DVC removed it before it ran the stage.
    project.run("dvc", "checkout", "count")
    assert (project.folder / "count.txt").read_text(encoding="utf-8") == "42"
    assert stages_run(project) == {"check", "count"}


def test_a_comment_is_no_reason_to_refuse(project):
    project.edit("press/toy/counting.py", "# Counts.", "# Counts and counts.")
    assert stages_run(project, "--single-item", "--force", "count") == {"count"}


@pytest.mark.parametrize("where", [[], ["--temp"]])
def test_experiments_run_what_their_parameters_touch(project, where):
    result = project.run("dvc", "exp", "run", *where, "--name", "lucky", "--set-param", "seed=7")
    assert re.findall(r"^Running stage '(.+)':$", result.stdout, re.MULTILINE) == ["check", "count"]
    shown = project.run("git", "show", "refs/exps/" + _reference(project, "lucky") + ":dvc.lock").stdout
    assert "seed: 7" in shown
    here = (project.folder / "count.txt").read_text(encoding="utf-8")
    assert here == ("42" if where else "7")


def test_the_search_s_trials_take_what_is_known_from_the_run_cache(project):
    """As press.search.experiments builds a trial: in a clone that shares the cache, with changed parameters."""
    words = ("python", "-m", "press.search.cached_dvc", "exp", "run", "--name")
    project.run(*words, "first", "--set-param", "seed=7")
    project.run("git", "stash", "--quiet")
    again = project.run(*words, "second", "--set-param", "seed=7").stdout
    assert "is cached - skipping run" in again
    assert "Running stage 'count'" not in again


def _reference(project: Project, name: str) -> str:
    listed = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    return next(each for each in listed if each.endswith(f"/{name}")).removeprefix("refs/exps/")
