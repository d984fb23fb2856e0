"""What runs again and what does not, asked of DVC with the project's own dvc.yaml and stand-ins for its stages."""

import re
import shutil
import sys

import pytest
from projects import Project, stages_run, stale

from press.core import files

pytestmark = pytest.mark.integration


@pytest.fixture
def copy(hollow_copy: Project) -> Project:
    return hollow_copy


def test_a_second_run_does_nothing_and_a_comment_changes_nothing(copy):
    copy.edit("params.yaml", "seed: 42", "# a comment\nseed: 42   # and another")
    result = copy.run("dvc", "repro")
    assert "Running stage" not in result.stdout
    assert "Data and pipelines are up to date." in result.stdout


def test_another_sample_prompt_trains_nothing_anew(copy):
    copy.edit(
        "params.yaml",
        "how do i get over jet lag",
        "how do i get rid of jet lag",
    )
    expected = {"prepare@travel", "convert@cpu-travel", "evaluate@cpu", "package@cpu"}
    assert stages_run(copy) - {"check"} == expected


def test_a_pass_after_the_capture_quantizes_and_trains_nothing_anew(copy):
    copy.edit("params.yaml", "passes: {}", "passes: {after_capture: [{type: AddOliveMetadata, graph_name: a}]}")
    expected = {"capture@cpu", "convert@cpu-travel", "convert@cpu-packing", "evaluate@cpu", "package@cpu"}
    assert stages_run(copy) - {"check"} == expected


def test_how_answers_are_given_trains_nothing_anew(copy):
    copy.edit("params.yaml", "repetition_penalty: 1.05", "repetition_penalty: 1.2")
    expected = {"check", "prepare@travel", "convert@cpu-travel", "evaluate@cpu", "package@cpu"}
    assert stages_run(copy) == expected


def test_a_learning_rate_touches_one_adapter_alone(copy):
    copy.edit("params.yaml", "    data: data/travel", "    training: {learning_rate: 0.002}\n    data: data/travel")
    expected = {"check", "finetune@travel", "convert@cpu-travel", "evaluate@cpu", "package@cpu"}
    assert stages_run(copy) == expected


def test_what_all_adapters_have_touches_those_that_do_not_say_otherwise(copy):
    copy.edit("params.yaml", "    rank: 4", "    rank: 2")  # of packing, it is 8
    expected = {"check", "finetune@travel", "convert@cpu-travel", "evaluate@cpu", "package@cpu"}
    assert stages_run(copy) == expected


def test_a_changed_default_touches_what_reads_it_and_dvc_shows_it(copy):
    copy.edit("press/params/defaults.yaml", "    damping: 0.1 ", "    damping: 0.2 ")
    ran = stages_run(copy)
    assert {"check", "quantize", "finetune@travel", "capture@cpu"} < ran
    assert not {"fetch", "prepare@travel", "prepare@packing"} & ran
    shown = [line.split() for line in copy.run("dvc", "params", "diff").stdout.splitlines()]
    assert ["reports/params.json", "quantize.awq.damping", "0.1", "0.2"] in shown


def test_a_value_that_is_spelled_out_as_its_default_touches_nothing_but_check(copy):
    copy.edit("params.yaml", "    data: data/travel", "    lora: {dropout: 0.0}\n    data: data/travel")
    assert stages_run(copy) == {"check"}


def test_a_parameter_that_is_set_back_brings_all_outputs_back(copy):
    """Those that git has as well, though DVC keeps no runs of stages that have such outputs."""
    lock = (copy.folder / "dvc.lock").read_bytes()
    for old, new in (("learning_rate: 0.001", "learning_rate: 0.002"), ("group_size: 32", "group_size: 64")):
        copy.edit("params.yaml", old, new)
        assert len(stages_run(copy)) > 3
        copy.edit("params.yaml", new, old)
        assert stages_run(copy) == {"check"}
        assert (copy.folder / "dvc.lock").read_bytes() == lock
        assert not stale(copy)
        assert not copy.run("git", "status", "--porcelain").stdout


def test_a_report_that_somebody_edited_is_not_kept_for_later(copy):
    copy.edit("params.yaml", "learning_rate: 0.001", "learning_rate: 0.002")
    report = copy.folder / "reports/machine/finetune/travel.json"
    report.write_text("edited", encoding="utf-8")
    assert "finetune@travel" in stages_run(copy)
    copy.edit("params.yaml", "learning_rate: 0.002", "learning_rate: 0.001")
    assert stages_run(copy) == {"check", "finetune@travel"}
    assert report.read_text(encoding="utf-8") != "edited"


def test_a_new_adapter_runs_its_own_stages(copy):
    copy.edit("params.yaml", "\ntargets:", "\n" + renamed_block(copy, "packing", "cruise") + "\ntargets:")
    shutil.copyfile(copy.folder / "data/packing.jsonl", copy.folder / "data/cruise.jsonl")
    own = {"prepare@cruise", "finetune@cruise", "convert@cpu-cruise"}
    assert stages_run(copy) == own | {"check", "evaluate@cpu", "package@cpu"}
    assert (copy.folder / "models/converted/cpu/cruise").exists()


def renamed_block(copy: Project, name: str, new: str) -> str:
    """Return an adapter's block of params.yaml under another name."""
    text = (copy.folder / "params.yaml").read_text(encoding="utf-8")
    block = re.search(rf"^  {name}:\n(?:    .*\n)+", text, re.MULTILINE)[0]
    return block.replace(f"  {name}:", f"  {new}:", 1).replace(f"data/{name}", f"data/{new}").rstrip("\n")


def test_a_target_touches_its_own_stages(copy):
    text = (copy.folder / "params.yaml").read_text(encoding="utf-8")
    block = re.search(r"^  cpu:\n(?:    .*\n)+", text, re.MULTILINE)[0]
    better = block.replace("cpu:", "better:", 1).replace("precision: int8", "precision: float")
    copy.edit("params.yaml", block, block + better)
    own = {f"{name}@better" for name in ("capture", "evaluate", "package")}
    own |= {f"convert@better-{adapter}" for adapter in ("travel", "packing")}
    assert stages_run(copy) == own | {"check"}
    copy.edit("params.yaml", "accuracy_level: 4", "accuracy_level: 1")
    copy.resolve()
    # `convert` captures a model, too, where adapters are merged; `evaluate` and `package` name the target in the card.
    captures = {"capture@cpu", "convert@cpu-packing", "convert@cpu-travel"}
    assert stale(copy) == captures | {"check", "evaluate@cpu", "package@cpu"}


def test_clean_removes_the_outputs_and_nothing_else(copy):
    kept = copy.folder / "models/mine.txt"
    kept.write_text("mine", encoding="utf-8")
    copy.run(sys.executable, "-m", "press.clean")
    assert [path.name for path in (copy.folder / "models").rglob("*")] == ["mine.txt"]
    assert not (copy.folder / "packages").exists()
    copy.run("git", "restore", "reports")
    copy.run("dvc", "checkout")
    assert not stale(copy)


def test_a_clone_that_git_may_give_other_line_ends_is_up_to_date(copy, tmp_path):
    copy.run("git", "-c", "core.autocrlf=true", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.run("dvc", "cache", "dir", "--local", str(copy.folder / ".dvc/cache"))
    clone.run("dvc", "checkout")
    assert not stale(clone)


@pytest.mark.parametrize("recorded", [False, True])
def test_a_parameter_that_a_new_version_names_reruns_what_reads_it(copy, recorded):
    # As after `git pull`: dvc.yaml names what reports/adapters has not, nor dvc.lock, if it is as old.
    path = copy.folder / "reports/adapters/travel.json"
    values = files.read_json(path)
    del values["turns"]
    files.write_json(path, values)
    lock = copy.folder / "dvc.lock"
    lines = lock.read_text(encoding="utf-8").splitlines(keepends=True)
    lock.write_text("".join(line for line in lines if recorded or "        turns:" not in line), encoding="utf-8")
    (copy.folder / ".dvc/tmp/kept-runs").unlink(missing_ok=True)
    ran = stages_run(copy)
    assert "check" in ran
    assert ("prepare@travel" in ran) != recorded
