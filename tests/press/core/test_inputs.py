"""A stage reads what dvc.lock names, or does not run."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from press.core import cli, dvc_files, inputs
from press.core.errors import UserError

PIPELINE = {
    "fetch": {"cmd": "python -m stages.fetch", "deps": ["reports/code/fetch.txt"], "outs": ["models/base"]},
    "prepare": {
        "foreach": "${adapters}",
        "do": {"cmd": "python -m stages.prepare ${key}", "deps": ["models/base", "${item.data}"]},
    },
    "finetune": {
        "foreach": "${adapters}",
        "do": {"cmd": "python -m stages.finetune ${key}", "deps": ["prepared/${key}/train.jsonl"]},
    },
    "convert": {
        "matrix": {"target": "${targets}", "adapter": "${adapters}"},
        "cmd": "python -m stages.convert ${item.target} ${item.adapter}",
        "deps": ["models/captured/${item.target}", "models/adapters/${item.adapter}"],
    },
    "evaluate": {"foreach": "${targets}", "do": {"cmd": "python -m stages.evaluate ${key}", "deps": ["prepared"]}},
}
MADE = {
    "fetch": "models/base",
    "prepare@travel": "prepared/travel",
    "prepare@packing": "prepared/packing",
    "capture@cpu": "models/captured/cpu",
    "finetune@travel": "models/adapters/travel",
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline whose outputs are here, as dvc.lock names them."""
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": PIPELINE}), encoding="utf-8")
    recorded = {}
    for maker, path in MADE.items():
        (Path(path) / "a").mkdir(parents=True)
        for name in ("train.jsonl", "a/b.txt"):
            (Path(path) / name).write_text(f"{path} 1", encoding="utf-8")
        recorded[maker] = {"outs": [{"path": path, "md5": dvc_files.digest(Path(path))}]}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": recorded}), encoding="utf-8")


def damage(path: str) -> None:
    """Change a letter, as a disk or a person does that DVC does not see: neither size nor times change."""
    times = Path(path).stat()
    Path(path).write_text(Path(path).read_text(encoding="utf-8").replace("1", "2"), encoding="utf-8")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    ("stage", "words", "damaged", "maker"),
    [
        ("prepare", ["travel"], "models/base/a/b.txt", "fetch"),
        # A stage that reads one file of a folder is told of any that is damaged, and one that reads several of each.
        ("finetune", ["travel"], "prepared/travel/a/b.txt", "prepare@travel"),
        ("evaluate", ["cpu"], "prepared/packing/train.jsonl", "prepare@packing"),
        ("convert", ["cpu", "travel"], "models/captured/cpu/train.jsonl", "capture@cpu"),
        ("convert", ["cpu", "travel"], "models/adapters/travel/train.jsonl", "finetune@travel"),
    ],
)
def test_a_damaged_input_is_named_with_what_made_it(stage, words, damaged, maker):
    inputs.check(stage, words)
    damage(damaged)
    with pytest.raises(UserError) as caught:
        inputs.check(stage, words)
    assert str(caught.value) == (
        f"{MADE[maker]} is not what {maker} made, as dvc.lock names it, whatever DVC says: `make pull` brings it back "
        f"from the remote, `dvc repro --force {maker}` makes it anew, `dvc commit {maker}` records it if you ran that "
        "stage by hand; or remove it if no such stage is left"
    )


def test_what_a_stage_does_not_read_is_not_looked_at():
    for path in ("prepared/packing/train.jsonl", "models/base/a/b.txt", "models/captured/cpu/a/b.txt"):
        damage(path)
    inputs.check("finetune", ["travel"])
    inputs.check("fetch", [])
    # Neither of the pipeline: a test's own, or one that was taken out of dvc.yaml.
    inputs.check("other", ["cpu"])


def test_what_is_not_there_or_not_recorded_is_for_the_stage_to_say():
    shutil.rmtree("prepared/packing")
    inputs.check("evaluate", ["cpu"])
    damage("models/base/a/b.txt")
    Path("dvc.lock").unlink()
    inputs.check("prepare", ["travel"])
    Path("dvc.yaml").unlink()
    inputs.check("prepare", ["travel"])


def test_an_added_file_is_a_change_and_a_leftover_is_none():
    Path(".dvcignore").write_text(".*.partial\n__pycache__\n", encoding="utf-8")
    for leftover in ("models/base/__pycache__/x.pyc", "models/base/.x.partial/y"):
        Path(leftover).parent.mkdir()
        Path(leftover).touch()
    inputs.check("prepare", ["travel"])
    Path("models/base/more.txt").touch()
    with pytest.raises(UserError, match=r"^models/base is not what fetch made"):
        inputs.check("prepare", ["travel"])


def test_a_stage_is_refused_before_it_does_anything(monkeypatch, capsys):
    damage("models/base/train.jsonl")
    done = []
    Path("prepare.py").write_text("def main(adapter):\n    done.append(adapter)\n", encoding="utf-8")
    names = {"__name__": __name__, "done": done}
    exec(compile(Path("prepare.py").read_text(encoding="utf-8"), "stages/prepare.py", "exec"), names)
    monkeypatch.setattr(sys, "argv", ["stages/prepare.py", "travel"])
    with pytest.raises(SystemExit, match="error: models/base is not what fetch made"):
        cli.run(names["main"])
    assert done == []
