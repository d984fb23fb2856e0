"""A plan says what waits for what and how long that takes, and finds what a stage reads wherever it lies."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from press.cluster import plan
from press.cluster.plan import Job, Kept, Plan
from press.cluster.settings import Resources

pytestmark = pytest.mark.unit
ASKED = Resources(cpus=2, memory=4, gpus=1)


def job(stage: str, seconds: float | None, *after: str) -> Job:
    return Job(stage, frozenset(after), (), (), (), ASKED, seconds)


def test_the_estimate_is_of_the_longest_way_through_the_jobs():
    jobs = job("a", 5.0), job("b", 7.0), job("c", 1.0, "a"), job("d", 2.0, "b", "c")
    assert Plan(jobs, ()).seconds() == 9
    assert Plan(jobs[:3], ()).seconds() == 7
    assert Plan((), ()).seconds() == 0
    assert Plan((*jobs, job("e", None)), ()).seconds() is None


@pytest.mark.parametrize(
    ("reads", "found"),
    [
        (["models/base"], ["models/base"]),
        (["models/base/config.json"], ["models/base"]),
        (["models"], ["models/base", "models/quantized"]),
        (["prepared", "models/base"], ["models/base", "prepared/a", "prepared/b"]),
        (["mod", "models/bas", "prepared/a.jsonl"], []),
    ],
)
def test_a_stage_reads_outputs_there_around_it_and_in_it(tmp_path, monkeypatch, reads, found):
    monkeypatch.chdir(tmp_path)
    me = SimpleNamespace(deps=[SimpleNamespace(protocol="local", fs_path=str(tmp_path / name)) for name in reads])
    outs = [
        SimpleNamespace(fs_path=str(tmp_path / name), stage=name)
        for name in ("prepared/b", "models/base", "models/quantized", "prepared/a")
    ]
    own = SimpleNamespace(fs_path=str(tmp_path / "models/base/own"), stage=me)
    assert [plan._path(out) for out in Kept([*outs, own]).read_by(me)] == [Path(name) for name in found]
