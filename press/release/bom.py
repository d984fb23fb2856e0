"""The bill of materials of a release: a CycloneDX ML-BOM of the package, its base model, its data and the libraries.

https://cyclonedx.org/docs/1.6/json/. Its bytes follow from the release alone: it has no time, and its serial number is
made of the package's digest.
"""

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from press.core import files, packages, paths
from press.package import origin
from press.params import schema
from press.quality import vocabulary
from press.quality.vocabulary import GENERAL
from press.release import licences, provenance
from press.release.package import Package
from press.release.settings import Licences

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

FILE = "bom.cdx.json"
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# Parameters that shape the weights; the rest of them is in the provenance.
SHAPING = ("seed", "arithmetic", "device", "quantize", "passes", "lora", "training")
TASK = "text-generation"


def write(release: Package, allowed: Licences, folder: Path) -> None:
    """Write the bill of materials of a package with its figures into a folder."""
    (folder / FILE).write_text(text(release, allowed), encoding="utf-8")


def text(release: Package, allowed: Licences) -> str:
    """Return the bill of materials as JSON.

    :param release: a package with what was measured of it beside it
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.output.json import JsonV1Dot6

    inputs = release.manifest["inputs"]
    root, base, data = _package(release), _base(inputs), [*_data(inputs, allowed)]
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"urn:olive-press:{release.digest}"))
    bom.metadata.component = root
    for each in (made_of := [base, *data, *_libraries()]):
        bom.components.add(each)
    bom.register_dependency(root, made_of)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"]
    # The library has no model cards.
    document["metadata"]["component"]["modelCard"] = _model_card(release, [str(each.bom_ref) for each in data])
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def review(bom: dict, allowed: Licences) -> list[str]:
    """Say in lines what a reviewer asks of a bill of materials, what needs attention first.

    :param bom: as `text` writes it
    """
    rows = [(_licence_of(each), f"{each['name']} {each.get('version', '')}".rstrip()) for each in bom["components"]]
    settled = Counter(licence for licence, _ in rows if licence and licences.is_allowed(licence, allowed))
    # What names none sorts before all that name one.
    attention = sorted((licence or "", name) for licence, name in rows if licence not in settled)
    return [
        f"{len(rows)} components, {len(attention)} with a licence that licences.allow does not name:",
        *(f"  {licence or 'none named'}: {name}" for licence, name in attention),
        *(f"{number} under {licence}" for licence, number in sorted(settled.items())),
    ]


def _package(release: Package) -> "Component":
    from cyclonedx.model import HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    shaping = _flat(_shaping(release.manifest["inputs"]["params"]))
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=release.manifest.get("name", "package"),
        version=release.digest[:12],
        bom_ref="package",
        hashes=[HashType.from_composite_str(f"sha256:{release.digest}")],
        properties=[Property(name=f"olive-press:{name}", value=json.dumps(value)) for name, value in shaping],
    )


def _base(inputs: dict) -> "Component":
    from cyclonedx.model import HashType
    from cyclonedx.model.component import Component, ComponentType

    base = inputs["params"]["base"]
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=provenance.base_uri(base),
        bom_ref="base model",
        description=origin.source(schema.Base.model_validate(base)),
        purl=_purl(provenance.base_uri(base)),
        licenses=_licence(licences.of_base(inputs)),
        hashes=[HashType.from_composite_str(f"sha256:{inputs['base_model_sha256']}")],
    )


def _data(inputs: dict, allowed: Licences) -> "Iterator[Component]":
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashType, XsUri
    from cyclonedx.model.component import Component, ComponentType

    for path, digest in sorted(inputs["data_sha256"].items()):
        uri = provenance.data_uri(path, inputs["params"])
        source = ExternalReference(type=ExternalReferenceType.SOURCE_DISTRIBUTION, url=XsUri(uri))
        yield Component(
            type=ComponentType.DATA,
            name=path,
            bom_ref=f"data:{path}",
            external_references=[source] if uri != path else [],
            licenses=_licence(licences.of_data(path, allowed)),
            hashes=[HashType.from_composite_str(f"sha256:{digest}")],
        )


def _libraries() -> "Iterator[Component]":
    """Yield each package that is locked for this platform, with the hashes that the lock allows."""
    from cyclonedx.model import HashType
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    hashes = _locked_hashes(packages.LOCK)
    for name, version in sorted(packages.read().items()):
        yield Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            bom_ref=f"pkg:pypi/{name}@{version}",
            purl=PackageURL("pypi", name=name, version=version),
            licenses=_licence(_declared(name)),
            hashes=[HashType.from_composite_str(f"sha256:{digest}") for digest in hashes.get(name, [])],
        )


def _locked_hashes(path: Path) -> dict[str, list[str]]:
    blocks = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return {packages.normalize(re.split(r"[=\s\[]", line)[0]): HASH.findall(line) for line in blocks if "==" in line}


def _declared(name: str) -> str | None:
    """Return the licence that an installed package declares: its SPDX expression, or else its own words."""
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    classifiers = [line.split(" :: ") for line in about.get_all("Classifier", [])]
    classified = ", ".join(words[-1] for words in classifiers if words[0] == "License")
    declared = [*about.get_all("License-Expression", []), *about.get_all("License", []), classified]
    # Some put the whole text of the licence there.
    return next((words for words in declared if words and "\n" not in words), None)


def _licence(name: str | None) -> list:
    """Return a licence in CycloneDX's form: an SPDX identifier or expression where it is one, else a name."""
    from cyclonedx.factory.license import LicenseFactory

    return [LicenseFactory().make_from_string(name)] if name else []


def _licence_of(component: dict) -> str | None:
    for each in component.get("licenses", []):
        named = each.get("license", {})
        return each.get("expression") or named.get("id") or named.get("name")
    return None


def _purl(uri: str) -> Any:
    from packageurl import PackageURL

    return PackageURL.from_string(uri) if uri.startswith("pkg:") else None


def _shaping(params: dict) -> dict:
    adapters = {
        name: {key: adapter[key] for key in SHAPING if key in adapter} for name, adapter in params["adapters"].items()
    }
    return {**{key: params[key] for key in SHAPING if key in params}, "adapters": adapters}


def _flat(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _model_card(release: Package, data: list[str]) -> dict:
    """Return a model card as CycloneDX has it: the task, the data, and each figure of the ladder.

    :param data: references to the data sets
    """
    inputs, metrics = release.manifest["inputs"], files.read_json(release.folder / paths.METRICS)
    adapters = [name for name in inputs["params"]["adapters"] if name in metrics]
    texts = [*adapters, GENERAL]
    figures = [
        {"type": figure, "value": json.dumps(score[figure]), "slice": f"{text}: {label}"}
        for text in texts
        for _, label, score in vocabulary.ladder(metrics, text, adapters)
        for figure in (*vocabulary.FIGURES, *vocabulary.PAIRED)
        if score.get(figure) is not None
    ]
    figures += [
        {"type": metric, "value": json.dumps(value), "slice": f"{task}: {who}"}
        for task, scores in metrics.get("tasks", {}).items()
        for metric, values in scores.items()
        for who, value in values.items()
    ]
    costs = [
        f"{text}: {vocabulary.STEPS[step].label} {cost:+.4f} nats a token"
        for text in texts
        for step, cost in metrics[text].get("attribution", {}).items()
    ]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": TASK,
            "datasets": [{"ref": each} for each in data],
            "inputs": [{"format": "text"}],
            "outputs": [{"format": "text"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": figures},
        "considerations": {
            "useCases": [inputs["params"]["package"]["description"], *(_use(name, inputs) for name in adapters)],
            "technicalLimitations": [
                "The figures hold for the class of machine that gates.json names.",
                *(_forgetting(name, metrics) for name in adapters if GENERAL in metrics[name]),
            ],
            "performanceTradeoffs": costs,
        },
    }


def _use(name: str, inputs: dict) -> str:
    adapter = inputs["params"]["adapters"][name]
    return f"{name}: trained on {adapter['data']}, on examples of at most {adapter['max_seq_len']} tokens"


def _forgetting(name: str, metrics: dict) -> str:
    """Say what an adapter's training cost on the general text, as the card does."""
    engine, without = ("onnx", "bare") if "onnx" in metrics[name] else ("pytorch", "quantized")
    change = metrics[name][GENERAL][engine]["adapter"]["loss"] - metrics[GENERAL][engine][without]["loss"]
    return f"{name}: on the general text, the loss changes by {change:+.3f} nats a token; above 0, it forgot"
