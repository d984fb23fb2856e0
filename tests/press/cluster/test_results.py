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
