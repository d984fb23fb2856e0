"""A rebuild of HEAD is compared with what dvc.lock records, output by output."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from projects import ROOT, Project, assert_sentence

from press.verify import __main__

pytestmark = pytest.mark.integration

MAKE = """
import json
import sys
from pathlib import Path

source, target = sys.argv[1:]
if not Path(source).exists():
    sys.exit(f"{source} is missing")
numbers = json.loads(Path(source).read_text())
if isinstance(numbers, dict):
    numbers = numbers["values"]
Path(target).parent.mkdir(parents=True, exist_ok=True)
Path(target).write_text(json.dumps({"values": [number + 1 for number in numbers]}))
"""
STAGES = {
    "first": {
        "cmd": "python make.py numbers.json models/first.json",
        "deps": ["make.py", "numbers.json"],
        "outs": ["models/first.json"],
    },
    "second": {
        "foreach": ["a", "b"],
        "do": {
            "cmd": "python make.py models/first.json reports/${item}.json",
            "deps": ["make.py", "models"],
            "outs": [{"reports/${item}.json": {"cache": False, "persist": True}}],
        },
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small pipeline, built and committed."""
    project = Project(tmp_path_factory.mktemp("made") / "project")
    project.folder.mkdir()
    (project.folder / "make.py").write_text(MAKE, encoding="utf-8")
    (project.folder / "numbers.json").write_text("[1, 2, 3]", encoding="utf-8")
    (project.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}), encoding="utf-8")
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    project.run("dvc", "repro")
    project.commit()
    project.environment["PYTHONPATH"] = str(ROOT)
    return project


@pytest.fixture
def small(made: Project, tmp_path: Path) -> Project:
    project = made.copy_to(tmp_path / "project")
    project.environment = made.environment | {"TMPDIR": str(tmp_path / "scratch")}
    (tmp_path / "scratch").mkdir()
    return project


def verified(project: Project, *stages: str) -> subprocess.CompletedProcess:
    return project.run(sys.executable, "-m", "press.verify", *stages, check=False)


def lines(result: subprocess.CompletedProcess, verdict: str) -> list[str]:
    return [line.split()[-1] for line in result.stdout.splitlines() if line.startswith(f"{verdict} ")]


def change_the_build(project: Project) -> None:
    """Let the next build give another number, as an undeclared input would, with dvc.lock as it was."""
    project.edit("make.py", "number + 1", "number + 1 if number < 3 else 7")
    lock = project.folder / "dvc.lock"
    digest = json.loads(project.run("dvc", "status", "--json").stdout)
    assert set(digest) == {"first", "second@a", "second@b"}
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))
    project.run("dvc", "commit", "--force", "first", "second@a", "second@b")
    outs = {name: stage["outs"] for name, stage in stages["stages"].items()}
    after = yaml.safe_load(lock.read_text(encoding="utf-8"))
    assert outs == {name: stage["outs"] for name, stage in after["stages"].items()}
    project.commit()


def test_the_same_bytes_are_identical_and_leave_nothing_behind(small):
    (small.folder / "numbers.json").write_text("[9]", encoding="utf-8")
    result = verified(small)
    assert result.returncode == 0, result.stderr
    assert lines(result, "identical") == ["models/first.json", "reports/a.json", "reports/b.json"]
    assert "3 outputs: 3 identical, 0 different" in result.stdout
    assert "note: there are changes that are not committed" in result.stdout
    assert list((small.folder.parent / "scratch").glob("olive-press-*")) == []


def test_a_difference_is_found_and_placed(small):
    change_the_build(small)
    result = verified(small)
    assert result.returncode == 1, result.stderr
    assert lines(result, "identical") == []
    assert "values[2] is 4, rebuilt 7" in result.stdout
    assert "at most: a figure is off by 0.43 of first.json.values[2]" in result.stdout
    (kept,) = (small.folder.parent / "scratch").glob("olive-press-*")
    assert f"both builds are in {kept}" in result.stdout
    recorded, rebuilt = (kept / name / "models/first.json" for name in ("recorded", "rebuilt"))
    assert recorded.read_text() == '{"values": [2, 3, 4]}'
    assert rebuilt.read_text() == '{"values": [2, 3, 7]}'


def test_a_stage_is_rebuilt_alone_from_its_recorded_inputs(small):
    result = verified(small, "second@b")
    assert result.returncode == 0, result.stderr
    assert lines(result, "identical") == ["reports/b.json"]
    assert "Running stage 'second@b'" in result.stdout
    assert "Running stage 'first'" not in result.stdout


def test_inputs_that_are_not_in_the_cache_are_a_sentence(small):
    shutil.rmtree(small.folder / ".dvc/cache")
    assert_sentence(verified(small, "second"), "cache has not all of models/first.json", "`make pull`")
    assert list((small.folder.parent / "scratch").glob("olive-press-*")) == []


def test_a_recorded_output_that_is_not_in_the_cache_is_compared_by_digest(small):
    change_the_build(small)
    shutil.rmtree(small.folder / ".dvc/cache")
    result = verified(small, "first")
    assert result.returncode == 1
    assert "only the digests can be compared" in result.stdout


def damage_the_cache(project: Project) -> None:
    """Change a digit of models/first.json in DVC's cache, with the same size and times of modification."""
    digest = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]["first"]["outs"][0]["md5"]
    damage(project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:])


def damage(path: Path) -> None:
    times = path.stat()
    path.chmod(0o644)
    path.write_text(path.read_text().replace("3", "5"), encoding="utf-8")
    path.chmod(times.st_mode)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_what_is_damaged_in_the_cache_is_neither_built_from_nor_compared_with(small):
    damage_the_cache(small)
    assert_sentence(verified(small, "second@a"), "the DVC cache has not all of models/first.json as dvc.lock records")
    change_the_build(small)
    damage_the_cache(small)
    result = verified(small, "first")
    assert result.returncode == 1
    assert "what is recorded is not whole in the DVC cache: only the digests can be compared" in result.stdout


def test_what_is_damaged_here_is_found_whatever_dvc_lock_says(small):
    damage(small.folder / "models/first.json")
    result = verified(small, "--built")
    assert result.returncode == 1
    assert lines(result, "different") == ["models/first.json"]
    assert "values[1] is 3, rebuilt 5" in result.stdout


def test_a_build_that_needs_an_uncommitted_file_fails(small):
    small.run("git", "rm", "--quiet", "--cached", "numbers.json")
    small.run("git", "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message", "x")
    assert_sentence(verified(small), "the rebuild failed, for the reason above")


def test_what_is_built_here_is_compared_without_another_build(small):
    assert "3 outputs: 3 identical, 0 different" in verified(small, "--built").stdout
    small.edit("make.py", "number + 1", "number + 2")
    small.run("dvc", "repro")
    result = verified(small, "--built")
    assert result.returncode == 1
    assert lines(result, "different") == ["models/first.json", "reports/a.json", "reports/b.json"]
    assert "values[0] is 2, rebuilt 3" in result.stdout
    assert "Running stage" not in result.stdout
    assert verified(small, "--built", "first").returncode == 2


def test_an_unknown_stage_and_a_missing_lock_are_sentences(small):
    assert_sentence(verified(small, "third"), "no stage 'third'", "first, second@a, second@b")
    small.run("git", "rm", "--quiet", "dvc.lock")
    small.commit()
    assert_sentence(verified(small), "HEAD has no dvc.lock", "make repro")


def test_stages_run_after_those_whose_outputs_they_read():
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    order = __main__.in_order(dict(reversed(stages.items())))
    place = {name: index for index, name in enumerate(order)}
    assert place["check"] < place["fetch"] < place["quantize"] < place["finetune@travel"] < place["evaluate@cpu"]
    assert __main__.chosen(["package", "convert"], stages)[-1] == "package@cpu"
    assert set(__main__.inputs(stages, ["convert@cpu-travel"])) == {
        Path("models/quantized"),
        Path("models/adapters/travel"),
        Path("models/captured/cpu"),
        Path("prepared/travel"),
        Path("reports/code/convert.txt"),
        Path("reports/environment/convert.txt"),
    }
