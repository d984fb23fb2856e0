"""`make clean` removes what the pipeline made, and nothing else."""

from pathlib import Path

import pytest
import yaml

from press import clean

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
    removed = clean.clean(clean.outputs(Path("dvc.lock")))
    assert present() == set(KEPT)
    assert len(removed) == 8
    assert not Path("models").exists()
    assert not Path("reports").exists()


def test_a_user_s_file_beside_the_outputs_stays(workspace):
    mine = {"models/notes.md", "models/adapters/mine/a.bin", "reports/finetune/travel/plot.png", "models/.hidden"}
    for name in mine:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    clean.clean(clean.outputs(Path("dvc.lock")))
    assert present() == {*KEPT, *mine}


def test_cleaning_twice_removes_nothing_more(workspace):
    paths = clean.outputs(Path("dvc.lock"))
    clean.clean(paths)
    assert clean.clean(paths) == []


def test_without_a_lock_only_leftovers_of_a_first_run_are_removed(workspace):
    Path("dvc.lock").unlink()
    clean.clean(clean.outputs(Path("dvc.lock")))
    assert present() == {*OUTPUTS, *KEPT} - {"dvc.lock"}
