"""Every stage ends in the same way: a sentence for a user's mistake, a traceback for a bug."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STAGE = '''"""A tiny stage.

in:  nothing
"""

from press.core import cli
from press.core.errors import UserError


def main(adapter):
{body}


if __name__ == "__main__":
    cli.run(main{options})
'''
FULL_DISK = "error: no space left on the disk; free some and run `dvc repro` again: nothing was lost\n"


@pytest.fixture
def stage(tmp_path: Path):
    """Write a stage with the given body and return how to start it."""

    def start(body: str, *words: str, options: str = "") -> subprocess.Popen:
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        (tmp_path / "tiny.py").write_text(STAGE.format(body=lines, options=options), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tiny", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)

    return start


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def test_success_passes_the_words_on_and_exits_with_0(stage):
    assert ended(stage("print(adapter)", "travel")) == (0, "travel\n", "")


def test_a_user_s_mistake_is_a_sentence_without_a_traceback(stage):
    assert ended(stage("raise UserError('the cat is no dog')", "travel")) == (1, "", "error: the cat is no dog\n")


def test_a_bug_keeps_its_traceback(stage):
    code, _, stderr = ended(stage("1 / 0", "travel"))
    assert code == 1
    assert stderr.startswith("Traceback")
    assert stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    "body",
    [
        "open('/dev/full', 'w').write('x' * 100_000)",
        "from pathlib import Path\nPath('/dev/full').write_text('x')",
        "try:\n    open('/dev/full', 'wb', 0).write(b'x')\nexcept OSError as error:\n    raise ValueError from error",
        "try:\n    open('/dev/full', 'wb', 0).write(b'x')\nexcept OSError:\n    raise ValueError",
        "raise RuntimeError('I/O error: No space left on device (os error 28)')",
        "import errno\nraise OSError(errno.EDQUOT, 'Disk quota exceeded')",
    ],
    ids=["buffered", "pathlib", "wrapped", "while handling it", "of another language", "quota"],
)
def test_a_full_disk_is_a_sentence(stage, body):
    assert ended(stage(body, "travel")) == (1, "", FULL_DISK)


def test_a_library_in_rust_that_fills_a_small_disk_gives_the_sentence(stage, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    body = (
        "import numpy\nfrom safetensors.numpy import save_file\n"
        f"save_file({{'a': numpy.zeros(10**6)}}, '{disk}/a.safetensors')"
    )
    try:
        assert ended(stage(body, "travel")) == (1, "", FULL_DISK)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_another_system_error_is_no_full_disk(stage):
    code, _, stderr = ended(stage("open('/no/such/file')", "travel"))
    assert code == 1
    assert stderr.endswith("FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'\n")


def test_ctrl_c_exits_with_130_and_says_that_nothing_is_lost(stage):
    process = stage("import time\nprint('ready', flush=True)\ntime.sleep(60)", "travel")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (
        130,
        "",
        "interrupted: the previous outputs are intact; `dvc repro` goes on from here\n",
    )


def test_help_shows_the_docstring_and_the_words(stage):
    code, stdout, stderr = ended(stage("pass", "--help"))
    assert (code, stderr) == (0, "")
    assert stdout.startswith("usage: python -m tiny [-h] adapter\n\nA tiny stage.\n\nin:  nothing\n")
    assert "name of the adapter in params.yaml" in stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [((), "the following arguments are required: adapter"), (("a", "b"), "unrecognized arguments: b")],
)
def test_a_missing_or_surplus_word_exits_with_2(stage, words, reason):
    code, _, stderr = ended(stage("pass", *words))
    assert code == 2
    assert stderr.endswith(f"python -m tiny: error: {reason}\n")


@pytest.mark.parametrize(("options", "offline"), [("", "1"), (", online=True", "None")])
def test_only_a_stage_that_may_reaches_a_hub(stage, options, offline, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    body = "import os\nprint(os.environ.get('HF_HUB_OFFLINE'), os.environ['OLIVE_DISABLE_TELEMETRY'])"
    assert ended(stage(body, "travel", options=options)) == (0, f"{offline} 1\n", "")
