"""`make ask` asks what comes first in params.yaml, or what is named and there."""

import argparse
import copy
import shutil
from pathlib import Path

import pytest
from parameters import PARAMS, written
from projects import ROOT

from press import ask
from press.core.errors import UserError
from press.params import reading


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")


def words(adapter: str = "", prompt: str = "") -> argparse.Namespace:
    return argparse.Namespace(adapter=adapter, prompt=prompt)


def test_the_first_target_and_adapter_of_the_file_answer_where_none_is_named():
    assert ask.questions(words(prompt="hi")) == [("travel", "hi")]
    assert ask.command("", "travel", "hi")[1:] == ["app.py", "--package=packages/cpu", "--adapter=travel", "--", "hi"]


def test_what_is_named_answers_and_a_prompt_is_no_option():
    assert ask.questions(words("packing", "--help")) == [("packing", "--help")]
    assert ask.command("cpu", "packing", "--help")[3:] == ["--adapter=packing", "--", "--help"]


def test_without_a_prompt_each_adapter_is_asked_its_first_sample():
    params = copy.deepcopy(PARAMS)
    params["adapters"]["travel"]["samples"] = []
    written(Path(), params)
    sample = PARAMS["adapters"]["packing"]["samples"][0]
    assert ask.questions(words()) == [("packing", sample), ("travel", ask.QUESTION)]
    assert ask.questions(words("packing")) == [("packing", sample)]
    assert ask.questions(words("other")) == [("other", ask.QUESTION)]


@pytest.mark.parametrize("target", ["../../etc", "npu"])
def test_a_target_that_is_not_there_is_refused(target):
    with pytest.raises(UserError, match="targets has no"):
        ask.command(target, "travel", "hi")


def test_a_file_without_the_block_has_no_first(tmp_path):
    (tmp_path / "params.yaml").write_text("targets: []\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^params\.yaml: targets names nothing$"):
        reading.first("targets")
