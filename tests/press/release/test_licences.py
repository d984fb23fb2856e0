"""What a release is made of must have a licence that params.yaml allows."""

from pathlib import Path

import pytest
from parameters import PARAMS

from press.core.errors import UserError
from press.release import licences
from press.release.settings import Licences

ALLOWED = Licences(
    allow=["apache-2.0", "MIT", "BSD-3-Clause OR GPL-3.0-only", "GPL-3.0 WITH Commons-Clause"],
    data={"data/own.jsonl": "gpl-3.0", "data/*": "mit"},
)


def inputs(*paths: str, licence: str | None = "apache-2.0") -> dict:
    base = PARAMS["base"] | {"package": PARAMS["base"]["package"] | {"license": licence}}
    return {"params": {"base": base}, "data_sha256": dict.fromkeys(paths, "0" * 64)}


def test_allowed_licences_pass():
    licences.check(inputs("data/travel.jsonl"), ALLOWED)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (inputs("data/own.jsonl"), "licence of data/own.jsonl, gpl-3.0, is not in licences.allow"),
        (inputs("downloads/questions"), "downloads/questions has no licence (name it: licences.data in params.yaml)"),
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
    ("front_matter", "licence"),
    [
        ("license: mit", "mit"),
        ("license: [apache-2.0, mit]", "apache-2.0 AND mit"),
        ("license: [MIT OR GPL-3.0-only, llama3.2]", "(MIT OR GPL-3.0-only) AND llama3.2"),
        ("license: other\nlicense_name: a-b", "a-b"),
        ("license: other", "other"),
        ("license: 5", None),
        ("license: {a: b}", None),
    ],
)
def test_a_base_model_s_own_card_names_its_licence(front_matter, licence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models/base").mkdir(parents=True)
    Path("models/base/README.md").write_text(f"---\n{front_matter}\n---\n")
    found = inputs("data/travel.jsonl")
    found["params"]["base"] |= {"source": "local", "local": {"path": "given", "sha256": "0" * 64}}
    assert licences.of_base(found) == licence
    if licence != "mit":
        with pytest.raises(
            UserError, match=r"the licence of the base model, .*, is not in|the base model has no licence"
        ):
            licences.check(found, Licences(allow=["mit"], data={"*": "mit"}))


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
        ("MIT WITH Commons-Clause", False),
        ("Apache-2.0 OR MIT WITH Commons-Clause", True),
        ("gpl-3.0 with commons-clause", True),
        ("BSD-3-Clause OR GPL-3.0-only", True),
        ("llama3.2", False),
    ],
)
def test_an_expression_is_allowed_as_its_words_say(licence, allowed):
    assert licences.is_allowed(licence, ALLOWED) is allowed
