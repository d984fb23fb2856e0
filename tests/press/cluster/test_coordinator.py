"""What a job unpacks is the project, links and repositories in it included; what it is told is about its stage."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from press.cluster import coordinator
from press.cluster.plan import Job, Plan
from press.cluster.settings import Resources
from press.core.errors import UserError

pytestmark = pytest.mark.integration


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    for each in (folder, folder / "inner"):
        (each / "data").mkdir(parents=True)
        subprocess.run(["git", "init", "--quiet", str(each)], check=True)
        (each / "data/rows.jsonl").write_text("{}", encoding="utf-8")
        (each / ".gitignore").write_text("ignored\n", encoding="utf-8")
        (each / "ignored").touch()
    monkeypatch.chdir(folder)
    return folder


def test_links_and_inner_repositories_travel_and_what_git_ignores_does_not(repository, tmp_path):
    (repository / "folder").symlink_to("data")
    (repository / "file").symlink_to("data/rows.jsonl")
    (repository / "nowhere").symlink_to("later")
    with tarfile.open(fileobj=io.BytesIO(coordinator.snapshot())) as archive:
        archive.extractall(tmp_path / "job", filter="data")
    job = tmp_path / "job"
    for name in ("folder/rows.jsonl", "file", "inner/data/rows.jsonl"):
        assert (job / name).read_text(encoding="utf-8") == "{}"
    assert (job / "folder").is_symlink()
    assert (job / "nowhere").is_symlink()
    assert not list(job.rglob("ignored"))


@pytest.mark.parametrize("target", ["../elsewhere", "{tmp_path}/elsewhere", "{tmp_path}/project/data"])
def test_a_link_that_no_machine_can_follow_is_a_sentence(repository, tmp_path, target):
    (repository / "away").symlink_to(target.format(tmp_path=tmp_path))
    with pytest.raises(UserError, match="away is a link out of the project, to "):
        coordinator.snapshot()


def test_a_job_is_told_of_its_own_stage_alone_however_many_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    travel = {"foreach": "${adapters}", "do": {"cmd": "python -m stages.finetune ${key}"}}
    stages = {"check": {"cmd": "true"}, "finetune": travel, "convert": {"cmd": "true"}}
    Path("dvc.yaml").write_text(json.dumps({"vars": ["more.yaml"], "stages": stages}), encoding="utf-8")
    job = Job("finetune@travel", frozenset(), (), (), (), Resources(cpus=1, memory=1, gpus=0), None)
    order = coordinator.Run(None, Plan((), ()), None, {})._order(job)
    assert order["pipeline"] == {"vars": ["more.yaml"], "stages": {"finetune": travel}}
