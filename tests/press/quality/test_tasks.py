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
    tasks.rehearse(params, None)
    assert tasks.run(None, params, ["travel"], []) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "evaluate.tasks.names has trips, but there is no {path}: docs/tasks.md says how to add a task"),
        (b"\xff", "{path} (evaluate.tasks) is not UTF-8 text"),
        (b"task: [", "{path} (evaluate.tasks) is not valid YAML: "),
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
    (folder / "code.py").touch()
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


@pytest.fixture
def trips(folder, monkeypatch) -> Path:
    """A task whose folder has more: `more/code.py`, `common.txt` and a link. Others have a file beside the folder."""
    monkeypatch.setattr(tasks, "PACKAGE", "pytest")
    for name in ("more/code.py", "common.txt", "../evil.py", "../evil.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder / "trips.yaml"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("process_docs: !function {project}/data/evil.f", "the function {project}/data/evil.f"),
        ("process_docs: !function ../evil.f", "the function ../evil.f"),
        ("process_docs: !function os.system", "the function os.system"),
        ("metric_list: [{{metric: !function subprocess.run}}]", "the function subprocess.run"),
        ("task_list: [{{task: x, class: !function evil.Task}}]", "the function evil.Task"),
        ("include: ../evil.yaml", "what it includes, ../evil.yaml"),
        ("include: {project}/data/evil.yaml", "what it includes, {project}/data/evil.yaml"),
        ("include: [common.txt, missing.yaml]", "what it includes, missing.yaml"),
    ],
)
def test_code_and_files_that_dvc_does_not_watch_are_refused(trips, tmp_path, text, what):
    trips.write_text("task: trips\n" + text.format(project=tmp_path) + "\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        tasks.check(named("trips"))
    assert str(caught.value) == (
        f"data/tasks/trips.yaml (evaluate.tasks): {what.format(project=tmp_path)}, must be in a file of data/tasks, "
        "since DVC sees no other change: copy it in"
    )


def test_what_is_included_and_what_is_not_named_is_read_as_well(trips):
    trips.write_text("task: trips\ninclude: common.txt\n", encoding="utf-8")
    tasks.check(named("trips"))
    trips.with_name("common.txt").write_text("process_docs: !function os.system\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^/.*/common\.txt \(evaluate\.tasks\): the function os\.system"):
        tasks.check(named("trips"))
    trips.with_name("common.txt").write_text("", encoding="utf-8")
    trips.with_name("other.yaml").write_text("task: other\nprocess_docs: !function os.system\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^data/tasks/other\.yaml \(evaluate\.tasks\): the function os\.system"):
        tasks.check(named("trips"))


def test_aliases_hide_nothing_and_may_lead_in_a_circle(trips):
    trips.write_text("task: trips\nx: &x [*x]\ny: &y {y: *y}\n", encoding="utf-8")
    tasks.check(named("trips"))
    trips.write_text("task: trips\nx: &x [../evil.yaml]\ninclude: *x\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"what it includes, \.\./evil\.yaml"):
        tasks.check(named("trips"))


def test_functions_and_files_in_the_folder_pass(trips):
    trips.write_text("task: trips\nprocess_docs: !function more.code.f\ninclude: common.txt\n", encoding="utf-8")
    tasks.check(named("trips"))


def test_a_link_out_of_the_project_and_a_prompt_elsewhere_are_refused(trips, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "code.py"
    secret.touch()
    trips.write_text("task: trips\nuse_prompt: /etc/prompts.yaml:x\n", encoding="utf-8")
    with pytest.raises(UserError, match="has use_prompt: write the prompt into doc_to_text"):
        tasks.check(named("trips"))
    trips.with_name("code.py").symlink_to(secret)
    with pytest.raises(UserError, match=r"^data/tasks/code\.py \(evaluate\.tasks\) is a link out of the project, to"):
        tasks.check(named("trips"))
