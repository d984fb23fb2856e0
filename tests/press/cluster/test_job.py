"""A job's folder has the machine's cache and the remote's place, whatever the path of that is, and its inputs."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml
from configobj import ConfigObj
from dvc.repo import Repo

from press.cluster import job, worker
from press.core import dvc_files, files

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("url", ["/data/store", "/data #2/store", "/data/a, b", " /data", '/it\'s "here"'])
def test_a_remotes_path_is_read_as_it_stands(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(worker.HOME, "/work #1")
    Path(".dvc").mkdir()
    job.configure({"name": "storage", "url": url})
    config = ConfigObj(".dvc/config.local")
    assert config['remote "storage"'] == {"url": url}
    assert config["cache"] == {"dir": "/work #1/cache"}
    # What DVC knows of a folder goes with it.
    databases = str(tmp_path / ".dvc/tmp/databases")
    assert config["core"] == {"no_scm": "true", "analytics": "false", "site_cache_dir": databases}


def test_inputs_come_that_a_stage_made_or_dvc_added_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv(worker.HOME, str(tmp_path / "work"))
    remote = {"name": "storage", "url": str(tmp_path / "remote")}
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.chdir(made)
    Repo.init(no_scm=True).close()
    (made / ".dvc/config").write_text("[core]\nremote = storage\n", encoding="utf-8")
    job.configure(remote)
    for name in ("model/a", "model/b/c", "unread", "added"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name, encoding="utf-8")
    assert job.dvc("add", "--quiet", "model", "unread", "added") == 0
    job.transfer("push")
    outs = [yaml.safe_load(Path(f"{name}.dvc").read_text(encoding="utf-8"))["outs"][0] for name in ("model", "unread")]
    lock = {"schema": "2.0", "stages": {"fetch": {"cmd": "fetch", "outs": outs}, "check": {"cmd": "check"}}}
    there = tmp_path / "there"
    (there / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", "added.dvc"):
        shutil.copyfile(made / name, there / name)
    monkeypatch.setenv(worker.HOME, str(tmp_path / "other machine"))
    monkeypatch.chdir(there)
    job.configure(remote)
    Path("dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    Path("dvc.yaml").write_text("stages: {}", encoding="utf-8")
    job.pull([])
    job.pull(["model", "added"])
    for name in ("model/a", "model/b/c", "added"):
        assert Path(name).read_text(encoding="utf-8") == name
    assert not Path("unread").exists()
    assert not job.INPUTS.exists()


def test_another_machine_runs_the_stage_only_if_the_first_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    read = Path("base")
    read.write_text("a", encoding="utf-8")
    stage = {"cmd": "train", "deps": ["base"], "outs": ["adapter"]}
    deps = [{"path": "base", "hash": "md5", "md5": dvc_files.digest(read), "size": 1}]
    outs = [{"path": "adapter", "hash": "md5", "md5": "0" * 32, "size": 1}]
    lock = {"schema": "2.0", "stages": {"finetune@travel": {"cmd": "train", "deps": deps, "outs": outs}}}
    pipeline = {"stages": {"finetune": {"foreach": ["travel"], "do": stage}}}
    Path("dvc.yaml").write_text(yaml.safe_dump(pipeline), encoding="utf-8")
    Path("dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    ran: list[list[str]] = []
    monkeypatch.setattr(job.subprocess, "call", ran.append)
    # Which, as dvc.lock has it, it does not: its inputs are what they were.
    job.beside_the_first("finetune@travel")
    assert not ran
    assert files.read_json(Path(worker.RESULT)) == {}
    read.write_text("b", encoding="utf-8")
    job.beside_the_first("finetune@travel")
    assert ran == [[sys.executable, "-m", "stages.finetune", "travel"]]


def test_a_remote_that_stays_away_is_a_sentence_with_what_dvc_says_in_the_log(monkeypatch):
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(job, "PAUSES", (0, 0))
    monkeypatch.setattr(job, "dvc", lambda *words: asked.append(words) or 255)
    with pytest.raises(SystemExit) as ended:
        job.transfer("push", "one")
    assert str(ended.value).startswith("error: `dvc push` failed for 0 s: what DVC says of the remote is in the log")
    assert asked == [("push", "--quiet", "one")] * 2 + [("push", "one")]


def test_a_remote_that_is_away_for_a_minute_is_waited_for():
    assert 60 < sum(job.PAUSES) < 120
