"""What is said of a process that failed without a word of its own; tests/stages/test_finetune.py runs several."""

import errno
import os
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from press.core import cli
from press.core.errors import UserError
from press.training import launcher


def explained(building: Path, exitcode: int) -> Exception:
    failure = ProcessFailure(local_rank=1, pid=os.getpid(), exitcode=exitcode, error_file="none")
    return launcher._explained(ChildFailedError("work", {1: failure}), building)


def test_a_process_that_was_killed_is_named_with_what_helps(tmp_path):
    error = explained(tmp_path, -9)
    assert isinstance(error, UserError)
    assert str(error).startswith("process 1 of the training was killed (SIGKILL), as the system does where memory is")


def test_a_full_disk_is_one_for_the_stage_too(tmp_path):
    assert cli.is_full_disk(explained(tmp_path, errno.ENOSPC))


@pytest.mark.parametrize("exitcode", [1, -6])
def test_the_sentence_of_one_process_explains_another_that_lost_it(tmp_path, exitcode):
    (tmp_path / "failure-0.txt").write_text("the GPU's memory is full", encoding="utf-8")
    error = explained(tmp_path, exitcode)
    assert isinstance(error, UserError)
    assert str(error) == "the GPU's memory is full"


def test_a_bug_is_none_of_the_user_s_mistakes(tmp_path):
    assert isinstance(explained(tmp_path, 1), RuntimeError)
