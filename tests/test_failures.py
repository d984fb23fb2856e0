"""The whole DAG on a tiny random model: what is left after a kill, a full disk or a mistake.

That a killed training of two processes goes on: test_nodes.py.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from typing import NoReturn

import pytest
import torch
from projects import assert_sentence, stage, stages_run, stale

from press.core import files

pytestmark = pytest.mark.integration
PYTHON = sys.executable
OUTPUTS = {
    "fetch": "models/base",
    "prepare travel": "prepared/travel",
    "quantize": "models/quantized",
    "finetune travel": "models/adapters/travel",
    "capture cpu": "models/captured/cpu",
    "convert cpu travel": "models/converted/cpu/travel",
    "evaluate cpu": "reports/evaluate/cpu",
    "package cpu": "packages/cpu",
}


class Killed(BaseException):
    """In place of a kill, after which nothing of the process runs: no code of the project catches it."""


@pytest.mark.parametrize("words", OUTPUTS)
def test_a_stage_that_ends_before_it_publishes_leaves_the_last_outputs(copy, monkeypatch, words):
    """With all its work done, which is when there is most to lose."""
    output = copy.folder / OUTPUTS[words]
    before = files.folder_digest(output)

    def kill(*_: object) -> NoReturn:
        raise Killed

    monkeypatch.setattr(files, "publish", kill)
    with pytest.raises(Killed):
        copy.in_process(words)
    assert files.partial(output).exists()
    assert files.folder_digest(output) == before
    assert not stale(copy)


def test_what_a_killed_stage_left_is_gone_after_the_next_run(copy):
    """Of one stage: all build in such a folder, as above, and the same function empties it."""
    output = copy.folder / OUTPUTS["prepare travel"]
    before = files.folder_digest(output)
    files.partial(output).mkdir()
    (files.partial(output) / "half.jsonl").touch()
    assert copy.in_process("prepare travel").returncode == 0
    assert files.folder_digest(output) == before
    assert not files.partial(output).exists()


def test_a_killed_dvc_repro_is_taken_up_by_the_next(hollow_copy, monkeypatch):
    copy = hollow_copy
    copy.edit("params.yaml", "algorithm: awq", "algorithm: kquant")
    monkeypatch.setitem(copy.environment, "STAND_IN_WAITS", "quantize")
    process = copy.start("dvc", "repro", "quantize", start_new_session=True)
    while not files.partial(copy.folder / "models/quantized").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    monkeypatch.undo()
    assert "quantize" in stages_run(copy, "quantize")
    assert "quantize" not in stale(copy)


def test_dvc_brings_back_the_outputs_of_a_stage_that_failed(hollow_copy, monkeypatch):
    """It removes them before it runs the stage; with the parameters as they were, it brings back the reports, too."""
    copy = hollow_copy
    outputs = [copy.folder / path for path in ("models/quantized", "reports/olive", "reports/machine")]
    before = list(map(files.folder_digest, outputs))
    copy.edit("params.yaml", "group_size: 32", "group_size: 128")
    monkeypatch.setitem(copy.environment, "STAND_IN_FAILS", "quantize")
    assert "error: it fails" in copy.run("dvc", "repro", "quantize", check=False).stderr
    monkeypatch.undo()
    assert not outputs[0].exists()
    copy.run("dvc", "checkout", "quantize")
    assert files.folder_digest(outputs[0]) == before[0]
    copy.edit("params.yaml", "group_size: 128", "group_size: 32")
    assert stages_run(copy, "quantize") == {"check"}
    assert list(map(files.folder_digest, outputs)) == before
    assert not stale(copy)


def test_ctrl_c_says_so_and_exits_with_130(copy):
    process = copy.start(*stage("quantize"))
    while not files.partial(copy.folder / "models/quantized").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("interrupted: ")
    assert not stale(copy)


def test_a_killed_training_starts_over_when_its_inputs_changed(copy):
    stranded = copy.folder / "models/adapters/.travel.checkpoints"
    (stranded / "trainer/checkpoint-2").mkdir(parents=True)
    (stranded / "inputs.sha256").write_text("of other inputs", encoding="utf-8")
    before = files.folder_digest(copy.folder / "models/adapters/travel")
    assert copy.in_process("finetune travel").returncode == 0
    assert files.folder_digest(copy.folder / "models/adapters/travel") == before


@pytest.mark.parametrize(("words", "room"), [("fetch", 120), ("quantize", 120), ("finetune travel", 200)])
def test_a_full_disk_is_one_sentence_and_loses_nothing(copy, words, room):
    """A file system with too little room for a second copy, mounted over models/."""
    mount = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here without being root")
    script = f"""
        cp -a models ../kept
        mount -t tmpfs -o size=$(( $(du -sk models | cut -f1) + {room} ))k tmpfs models || exit 98
        cp -a ../kept/. models/ || exit 99
        {shlex.join(stage(words))}; code=$?
        diff -r ../kept/{OUTPUTS[words].removeprefix("models/")} {OUTPUTS[words]} && exit $code
    """
    assert_sentence(copy.run(*mount, "sh", "-c", script, check=False), "no space left on the disk")


@pytest.mark.parametrize(
    ("words", "old", "new", "parts"),
    [
        ("quantize", "group_size: 32", "group_size: 128", ("quantize.group_size is 128", "64 wide", "16 or 32 or 64")),
        (
            "finetune travel",
            "    rank: 4",
            "    target_modules: [query]\n    rank: 4",
            ("adapters.travel.lora.target_modules names query", "q_proj"),
        ),
        ("prepare travel", "{prompt}", "{question}", ("data/travel.jsonl lines 1, 2", "question")),
        ("prepare travel", "max_seq_len: 512", "max_seq_len: 4096", ("max_seq_len is 4096", "context is 2048")),
        ("check", "CPUExecutionProvider", "TPUExecutionProvider", ("targets.cpu.provider", "TPUExecutionProvider")),
        ("check", "\n  packing:", "\n  ../packing:", ("../packing", "folder name")),
        ("check", "\n  packing:", "\n  none:", ("'none' has a meaning of its own",)),
        ("check", "max_steps: 4", "max_steps: 0", ("every_adapter.training.max_steps is 0",)),
        (
            "check",
            "data: data/travel.jsonl",
            "data: data/trave.jsonl",
            ("data/trave.jsonl, which is neither a file nor a folder",),
        ),
    ],
)
def test_bad_parameters_are_one_sentence_and_lose_nothing(copy, words, old, new, parts):
    copy.edit("params.yaml", old, new)
    if words != "check":
        copy.resolve()
    before = files.folder_digest(copy.folder / "models")
    assert_sentence(copy.in_process(words), *parts)
    assert files.folder_digest(copy.folder / "models") == before
    copy.edit("params.yaml", new, old)
    copy.resolve()
    assert not stale(copy)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
@pytest.mark.parametrize("words", ["check", "quantize", "finetune travel", "evaluate cpu"])
def test_a_gpu_that_is_not_there_is_one_sentence_and_loses_nothing(copy, words):
    copy.edit("params.yaml", "device: auto", "device: cuda")
    copy.resolve()
    before = [files.folder_digest(copy.folder / folder) for folder in ("models", "reports")]
    result = copy.in_process(words)
    assert_sentence(result, "device is cuda, but PyTorch finds no CUDA device here: choose auto or cpu")
    assert [files.folder_digest(copy.folder / folder) for folder in ("models", "reports")] == before


@pytest.mark.parametrize(
    ("old", "new", "sentence", "started"),
    [
        # DVC's own sentence, since `check` names the blocks that it reads.
        ("seed: 42", "sede: 42", "Parameters 'seed' are missing from 'params.yaml'", []),
        ("max_steps:", "max_step:", "params.yaml: every_adapter.training.max_step is not a known key", ["check"]),
    ],
)
def test_dvc_repro_ends_with_the_sentence_before_anything_runs(hollow_copy, old, new, sentence, started):
    hollow_copy.edit("params.yaml", old, new)
    result = hollow_copy.run("dvc", "repro", check=False)
    assert result.returncode == 255
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert re.findall(r"^Running stage '(.+)':$", result.stdout, re.MULTILINE) == started


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("", ("data/travel.jsonl is empty",)),
        ('{"prompt": "a", "response": "b"\n', ("data/travel.jsonl line 37", "not JSON")),
        ('{"prompt": "a"}\n', ("data/travel.jsonl line 37", "'response'")),
        ('{"prompt": "a", "response": ""}\n', ("data/travel.jsonl line 37", "non-empty")),
    ],
)
def test_a_bad_data_file_is_one_sentence_and_loses_nothing(copy, line, parts):
    data = copy.folder / "data/travel.jsonl"
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join([*lines[:36], line, *lines[37:]]) if line else "", encoding="utf-8")
    before = files.folder_digest(copy.folder / "prepared/travel")
    assert_sentence(copy.in_process("prepare travel"), *parts)
    assert files.folder_digest(copy.folder / "prepared/travel") == before


def test_an_adapter_of_another_base_is_refused(copy):
    files.write_json(copy.folder / "models/adapters/travel/base.json", {"base_sha256": "0" * 64})
    assert_sentence(copy.in_process("convert cpu travel"), "models/adapters/travel is not what finetune@travel made")
    # Where there is no record of what was made, such as of a folder that was copied in.
    (copy.folder / "dvc.lock").unlink()
    result = copy.in_process("convert cpu travel")
    assert_sentence(result, "was trained on the base 000000000000", "dvc repro")


def test_two_processes_do_not_build_the_same_output(copy):
    output = copy.folder / "models/quantized"
    with files.building(output):
        result = copy.in_process("quantize")
    assert_sentence(result, "another process is still building models/quantized")
