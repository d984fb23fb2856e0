"""`make ask` asks what comes first in params.yaml, or what is named and there."""

import argparse
import copy
import shutil
from pathlib import Path

import pytest
import yaml
from parameters import PARAMS
from projects import ROOT

from press import ask
from press.core.errors import UserError
from press.params import reading


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")


def words(target: str = "", adapter: str = "", prompt: str = "hi") -> argparse.Namespace:
    return argparse.Namespace(target=target, adapter=adapter, prompt=prompt)


def test_the_first_target_and_adapter_of_the_file_answer_where_none_is_named():
    assert ask.command(words())[1:] == ["app.py", "--package=packages/cpu", "--adapter=packing", "--", "hi"]


def test_what_is_named_answers_and_a_prompt_is_no_option():
    assert ask.command(words("cpu", "travel", "--help"))[3:] == ["--adapter=travel", "--", "--help"]


@pytest.mark.parametrize(
    ("adapter", "asked"),
    [("packing", PARAMS["adapters"]["packing"]["samples"][0]), ("travel", ask.QUESTION), ("other", ask.QUESTION)],
)
def test_without_a_prompt_the_first_sample_is_asked_and_shown(adapter, asked, capsys):
    params = copy.deepcopy(PARAMS)
    params["adapters"]["travel"]["samples"] = []
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    assert ask.command(words(adapter=adapter, prompt=""))[3:] == [f"--adapter={adapter}", "--", asked]
    assert capsys.readouterr().out == f"{adapter}: {asked}\n"


@pytest.mark.parametrize("target", ["../../etc", "npu"])
def test_a_target_that_is_not_there_is_refused(target):
    with pytest.raises(UserError, match="targets has no"):
        ask.command(words(target))


def test_a_file_without_the_block_has_no_first(tmp_path):
    (tmp_path / "params.yaml").write_text("targets: []\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^params\.yaml: targets names nothing$"):
        reading.first("targets")
