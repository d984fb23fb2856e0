"""What the process of a stage is given, and that of a program which runs the project elsewhere."""

import os
import sys
from pathlib import Path
from unittest import mock

import pytest

from press.core import environment


@pytest.mark.parametrize("online", [False, True])
def test_a_stage_is_given_all_that_is_fixed_and_a_hub_only_if_it_may_reach_one(online):
    with mock.patch.dict(os.environ, {"TOKENIZERS_PARALLELISM": "true", "MINE": "1"}, clear=True):
        environment.prepare(online=online)
        given = dict(os.environ)
    expected = {**environment.STAGE, "MINE": "1"}
    if online:
        del expected["HF_HUB_OFFLINE"]
    assert given == expected


def test_a_hub_that_was_shut_off_by_the_user_stays_so():
    with mock.patch.dict(os.environ, {"HF_HUB_OFFLINE": "1"}, clear=True):
        environment.prepare(online=True)
        assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_elsewhere_this_interpreter_s_programs_come_first_and_no_other_folder_s_modules():
    with mock.patch.dict(os.environ, {"PATH": "/usr/bin", "PYTHONPATH": "/elsewhere", "MINE": "1"}, clear=True):
        given = environment.of_clone()
        assert os.environ["PYTHONPATH"] == "/elsewhere"
    assert given["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    assert (given["PYTHONPATH"], given["MINE"]) == ("", "1")
