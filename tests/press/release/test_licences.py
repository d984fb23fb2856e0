"""What a release is made of must have a licence that params.yaml allows."""

import pytest
from parameters import PARAMS

from press.core.errors import UserError
from press.release import licences
from press.release.settings import Licences

ALLOWED = Licences(allow=["apache-2.0", "MIT"], data={"data/own.jsonl": "gpl-3.0", "data/*": "mit"})


def inputs(*paths: str, licence: str | None = "apache-2.0") -> dict:
    base = PARAMS["base"] | {"package": PARAMS["base"]["package"] | {"license": licence}}
    return {"params": {"base": base}, "data_sha256": dict.fromkeys(paths, "0" * 64)}


def test_allowed_licences_pass():
    licences.check(inputs("data/travel.jsonl"), ALLOWED)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (inputs("data/own.jsonl"), "licence of data/own.jsonl, gpl-3.0, is not in licences.allow"),
        (inputs("elsewhere.jsonl"), "elsewhere.jsonl has no licence (name it: licences.data in params.yaml)"),
        (inputs(licence="llama3.2"), "licence of the base model, llama3.2, is not in"),
        (inputs(licence=None), "the base model has no licence (name it: base.package.license"),
    ],
)
def test_another_licence_or_none_is_refused_by_name(changed, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        licences.check(changed, ALLOWED)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("Apache-2.0", True),
        ("mit", True),
        ("MIT OR GPL-2.0-or-later", True),
        ("MIT AND GPL-2.0-or-later", False),
        ("(MIT OR GPL-2.0-or-later) AND Apache-2.0 WITH LLVM-exception", True),
        ("BSD License", False),
        ("", False),
        (" ", False),
        ("()", False),
    ],
)
def test_an_expression_is_allowed_as_its_words_say(licence, allowed):
    assert licences.is_allowed(licence, ALLOWED) is allowed
