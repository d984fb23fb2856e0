"""What the process of a stage is given, and that of a program which runs the project elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from projects import ROOT

from press.core import environment

EVENT = """
import logging.config
from olive.telemetry.telemetry_extensions import log_action
log_action("test", "action", 1.0, True)
logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
log_action("test", "action", 1.0, True)
"""


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


@pytest.mark.integration
def test_olive_tells_its_makers_nothing_even_if_logging_is_configured_anew(tmp_path):
    """What it cannot send it keeps in the user's cache."""
    given = environment.of_clone() | environment.STAGE | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", EVENT], env=given, cwd=tmp_path, check=True)
    assert not list(tmp_path.iterdir())
