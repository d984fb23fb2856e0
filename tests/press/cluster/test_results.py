"""What a machine says of a job's end is put into the project only where it is that job's."""

import base64
import json
from pathlib import Path

import pytest

from press.cluster import results
from press.cluster.plan import Job
from press.cluster.settings import Resources
from press.core import dvc_files
from press.core.errors import UserError

pytestmark = pytest.mark.unit
ASKED = Resources(cpus=1, memory=1, gpus=0)
JOB = Job("one", frozenset(), (), ("one.txt",), ("reports/one.json", "reports/one"), ASKED, None)
OUTS = [{"path": path} for path in ("one.txt", "reports/one.json", "reports/one")]


def said(**changes: object) -> dict:
    text = base64.b64encode(b"new").decode()
    reports = {"reports/one.json": text, "reports/one/a/b.txt": text}
    return {"entry": {"cmd": "x", "outs": OUTS}, "reports": reports, "seconds": 1.5, "code": 0, **changes}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "reports").mkdir(parents=True)
    (folder / "reports/one.json").write_text("old")
    monkeypatch.chdir(folder)
    return folder


def test_a_result_is_put_into_the_project():
    assert results.take(JOB, said()) == 1.5
    assert Path("reports/one.json").read_text() == Path("reports/one/a/b.txt").read_text() == "new"
    assert dvc_files.recorded()["one"]["cmd"] == "x"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"reports": {"../x": ""}}, "a report '../x'"),
        ({"reports": {"reports/one/../../../x": ""}}, "which is none of its outputs"),
        ({"reports": {"/dev/null": ""}}, "a report '/dev/null'"),
        ({"reports": {"params.yaml": ""}}, "a report 'params.yaml'"),
        ({"reports": {"reports/one.json": "n"}}, "is damaged"),
        ({"reports": None}, "is damaged"),
        ({"entry": None}, "is damaged"),
        ({"entry": {"outs": [{}]}}, "is damaged"),
        ({"entry": {"outs": [{"path": "two.txt"}]}}, "the outputs two.txt, which are another job's"),
        ({"seconds": float("nan")}, "is damaged"),
        ({"seconds": "soon"}, "is damaged"),
    ],
)
def test_what_is_not_this_jobs_is_refused_and_changes_nothing(project, changes, why):
    with pytest.raises(UserError, match=why):
        results.take(JOB, said(**changes))
    assert [path.name for path in project.rglob("*") if path.is_file()] == ["one.json"]
    assert Path("reports/one.json").read_text() == "old"
    assert json.dumps(sorted(path.name for path in project.parent.iterdir())) == '["project"]'


def test_nothing_is_written_through_a_link_where_dvc_lock_is_built(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("kept", encoding="utf-8")
    Path(".dvc.lock.partial").symlink_to(elsewhere)
    results.take(JOB, said())
    assert elsewhere.read_text(encoding="utf-8") == "kept"
    assert dvc_files.recorded()["one"]["cmd"] == "x"


LOCK = """schema: '2.0'
stages:
  check:
    cmd: python -m stages.check
    params:
      params.yaml:
        text: |-
          a

          b
  finetune@a:
    cmd: python -m stages.finetune a
  convert@cpu-a:
    cmd: python -m stages.convert cpu a
datasets: []
"""


@pytest.mark.parametrize("stage", ["check", "finetune@a", "convert@cpu-a", "finetune@b"])
def test_a_stages_lines_take_the_place_of_its_own_alone(stage):
    Path("dvc.lock").write_text(LOCK, encoding="utf-8")
    before = dvc_files.recorded()
    results._record(stage, {"cmd": "x", "outs": OUTS})
    assert dvc_files.recorded() == before | {stage: {"cmd": "x", "outs": OUTS}}
    text = Path("dvc.lock").read_text(encoding="utf-8")
    assert text.endswith("\ndatasets: []\n")
    # The lines of others stay as they stand, and are not written anew.
    assert stage == "check" or "        text: |-\n          a\n\n          b\n" in text


def test_a_job_gets_the_lines_of_the_stages_that_it_needs():
    assert dvc_files.stages(results.lock_of(["a"])) == {}
    Path("dvc.lock").write_text(LOCK, encoding="utf-8")
    assert dvc_files.stages(results.lock_of(["finetune@a", "other"])) == {
        "finetune@a": {"cmd": "python -m stages.finetune a"}
    }
    assert dvc_files.stages(results.lock_of(["check"]))["check"]["params"]["params.yaml"]["text"] == "a\n\nb"


def test_a_lock_that_dvc_did_not_write_is_a_sentence_and_stays():
    Path("dvc.lock").write_text("stages: {a: {cmd: x}}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"dvc\.lock is not as DVC writes it"):
        results._record("b", {"cmd": "x"})
    assert Path("dvc.lock").read_text(encoding="utf-8") == "stages: {a: {cmd: x}}\n"
