"""Tasks that params.yaml names are there, and are tasks, before anything runs."""

from pathlib import Path

import pytest

from press.core.errors import UserError
from press.params import schema
from press.quality import tasks

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of tasks in a project of its own, empty."""
    monkeypatch.chdir(tmp_path)
    folder = Path("data/tasks")
    folder.mkdir(parents=True)
    return folder


def named(*names: str, folder: Path = Path("data/tasks")) -> schema.Tasks:
    return schema.Tasks(names=list(names), folder=str(folder), limit=None)


def test_no_task_needs_no_folder_and_no_lm_eval_and_gives_no_metrics(tmp_path):
    params = named(folder=tmp_path / "missing")
    tasks.rehearse(params)
    assert tasks.run(None, params, ["travel"]) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "evaluate.tasks.names has trips, but there is no {path}: docs/tasks.md says how to add a task"),
        (b"\xff", "{path} (evaluate.tasks.names) is not UTF-8 text"),
        (b"task: [", "{path} (evaluate.tasks.names) is not valid YAML: "),
        (
            b"- trips",
            "{path} (evaluate.tasks.names) must say `task: trips` or `group: trips`, as it is called, not None",
        ),
        (b"task: other", "must say `task: trips` or `group: trips`, as it is called, not 'other'"),
        (b"group: other\ntask: [trips]", "must say `task: trips` or `group: trips`, as it is called, not 'other'"),
    ],
)
def test_what_is_no_task_is_named_without_lm_eval(folder, text, sentence):
    path = folder / "trips.yaml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(UserError) as caught:
        tasks.check(named("trips"))
    assert sentence.format(path=path) in str(caught.value)


@pytest.mark.parametrize("text", ["task: trips\nprocess_docs: !function code.clean\n", "group: trips\ntask: [other]\n"])
def test_a_task_passes_where_lm_eval_is_and_elsewhere_the_command_that_installs_it_is_named(folder, monkeypatch, text):
    (folder / "trips.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(tasks, "PACKAGE", "pytest")
    tasks.check(named("trips"))
    monkeypatch.setattr(tasks, "PACKAGE", "no-such-package")
    with pytest.raises(UserError) as caught:
        tasks.check(named("trips"))
    assert str(caught.value) == (
        "evaluate.tasks.names has trips, but no-such-package is not installed: run `make install-tasks`"
    )


def test_the_project_s_own_tasks_pass(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(tasks, "PACKAGE", "pytest")
    names = [path.stem for path in Path("data/tasks").glob("*.yaml")]
    assert names
    tasks.check(named(*names))
