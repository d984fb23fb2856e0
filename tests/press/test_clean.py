"""`make clean` removes what the pipeline made, and nothing else."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml
from projects import ROOT, Project, assert_sentence

from press import clean
from press.core.errors import UserError

LOCK = {
    "schema": "2.0",
    "stages": {
        "fetch": {"cmd": "x", "deps": [{"path": "stages/fetch.py"}], "outs": [{"path": "models/base"}]},
        "finetune@travel": {
            "cmd": "x",
            "deps": [{"path": "models/base"}, {"path": "data/travel.jsonl"}],
            "outs": [{"path": "models/adapters/travel"}, {"path": "reports/finetune/travel/metrics.json"}],
        },
        "check": {"cmd": "x"},
    },
}
OUTPUTS = ["models/base/config.json", "models/adapters/travel/a.bin", "reports/finetune/travel/metrics.json"]
LEFTOVERS = [
    "models/.base.partial/config.json",
    "models/.base.outgoing/config.json",
    "models/adapters/.travel.checkpoints/trainer/state.json",
    "reports/finetune/.travel.partial/metrics.json",
    "reports/finetune/travel/.metrics.json.partial",
]
KEPT = ["data/travel.jsonl", "stages/fetch.py", ".mine.partial", "data/.mine.partial", "dvc.lock"]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(yaml.safe_dump(LOCK), encoding="utf-8")
    for name in (*OUTPUTS, *LEFTOVERS, *KEPT):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("dvc.lock").write_text(yaml.safe_dump(LOCK), encoding="utf-8")
    return tmp_path


def present() -> set[str]:
    return {path.as_posix() for path in Path().rglob("*") if path.is_file()}


def test_outputs_and_leftovers_go_and_all_else_stays(workspace):
    removed = clean.clean(clean.outputs())
    assert present() == set(KEPT)
    assert len(removed) == 8
    assert not Path("models").exists()
    assert not Path("reports").exists()


def test_a_user_s_file_beside_the_outputs_stays(workspace):
    mine = {"models/notes.md", "models/adapters/mine/a.bin", "reports/finetune/travel/plot.png", "models/.hidden"}
    for name in mine:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    clean.clean(clean.outputs())
    assert present() == {*KEPT, *mine}


def test_cleaning_twice_removes_nothing_more(workspace):
    paths = clean.outputs()
    clean.clean(paths)
    assert clean.clean(paths) == []


def test_without_a_lock_only_leftovers_of_a_first_run_are_removed(workspace):
    Path("dvc.lock").unlink()
    clean.clean(clean.outputs())
    assert present() == {*OUTPUTS, *KEPT} - {"dvc.lock"}


def test_a_lock_with_a_merge_conflict_is_a_sentence_and_nothing_is_removed(workspace):
    text = Path("dvc.lock").read_text(encoding="utf-8")
    Path("dvc.lock").write_text(text.replace("stages:\n", "stages:\n<<<<<<< HEAD\n"), encoding="utf-8")
    with pytest.raises(UserError, match=r"^dvc\.lock has a merge conflict in line 3: `git checkout --ours dvc\.lock`"):
        clean.main()
    assert set(OUTPUTS) <= present()


@pytest.mark.parametrize(
    "path", ["{elsewhere}", "../elsewhere", "models/../../elsewhere", "models/link/x", "data", "."]
)
def test_a_lock_that_names_what_is_no_output_is_a_sentence_and_nothing_is_removed(workspace, tmp_path_factory, path):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "x").touch()
    Path("models/link").symlink_to(elsewhere)
    named = path.format(elsewhere=elsewhere)
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"a": {"outs": [{"path": named}]}}}), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"^dvc\.lock names .*, which is not in downloads, models, packages, prepared, "
    ):
        clean.main()
    assert set(OUTPUTS) <= present()
    assert (elsewhere / "x").exists()


@pytest.mark.integration
def test_beside_a_run_of_dvc_nothing_is_removed_and_after_it_everything(tmp_path):
    project = Project(tmp_path)
    wait = "mkdir -p models; touch models/out; test -e go || sleep 600"
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"a": {"cmd": wait, "outs": ["models/out"]}}}))
    project.environment["PYTHONPATH"] = str(ROOT)
    (tmp_path / "go").touch()
    project.run("dvc", "init", "--quiet", "--no-scm")
    project.run("dvc", "repro", "--quiet")
    (tmp_path / "go").unlink()
    running = project.start("dvc", "repro", "--force", start_new_session=True)
    while "write" not in (tmp_path / ".dvc/tmp/rwlock").read_text():
        assert running.poll() is None
        time.sleep(0.05)
    refused = project.run(sys.executable, "-m", "press.clean", check=False)
    assert_sentence(refused, "DVC is at work in this folder", f"(PID {running.pid})", "wait for it or end it")
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    (tmp_path / ".dvc/tmp/rwlock").write_text("")
    (tmp_path / "models/out").touch()
    assert project.run(sys.executable, "-m", "press.clean").stdout == "removed 1 outputs\n"
    assert not (tmp_path / "models/out").exists()
