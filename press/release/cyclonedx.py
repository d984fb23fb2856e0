"""The bill of materials in CycloneDX's form: an ML-BOM of the package, its base model, its data and the libraries.

https://cyclonedx.org/docs/1.6/json/. Its bytes follow from the release alone: it has no time, and its serial number is
made of the package's digest.
"""

import json
import uuid
from typing import TYPE_CHECKING, Any

from press.release.materials import APPROACH, TASK, Material, Materials

if TYPE_CHECKING:
    from cyclonedx.model.component import Component


def document(made_of: Materials) -> dict:
    """Return the bill of materials, ready for JSON."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.output.json import JsonV1Dot6

    root, base = _package(made_of), _base(made_of.base)
    data, libraries = [_data(each) for each in made_of.data], [_library(each) for each in made_of.libraries]
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"urn:olive-press:{made_of.digest}"))
    bom.metadata.component = root
    for each in (components := [base, *data, *libraries]):
        bom.components.add(each)
    bom.register_dependency(root, components)
    written = json.loads(JsonV1Dot6(bom).output_as_string())
    del written["metadata"]["timestamp"]
    # The library has no model cards.
    written["metadata"]["component"]["modelCard"] = _model_card(made_of, [str(each.bom_ref) for each in data])
    return written


def _package(made_of: Materials) -> "Component":
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    shaping = made_of.parameters.items()
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=made_of.name,
        version=made_of.digest[:12],
        bom_ref="package",
        hashes=_hashes([made_of.digest]),
        properties=[Property(name=f"olive-press:{name}", value=json.dumps(value)) for name, value in shaping],
    )


def _base(base: Material) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=base.name,
        bom_ref="base model",
        description=base.description,
        purl=_purl(base.uri),
        licenses=_licence(base.licence),
        hashes=_hashes(base.digests),
    )


def _data(data: Material) -> "Component":
    from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
    from cyclonedx.model.component import Component, ComponentType

    source = ExternalReference(type=ExternalReferenceType.SOURCE_DISTRIBUTION, url=XsUri(data.uri))
    return Component(
        type=ComponentType.DATA,
        name=data.name,
        bom_ref=f"data:{data.name}",
        external_references=[source] if data.uri != data.name else [],
        licenses=_licence(data.licence),
        hashes=_hashes(data.digests),
    )


def _library(library: Material) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        type=ComponentType.LIBRARY,
        name=library.name,
        version=library.version,
        bom_ref=library.uri,
        purl=_purl(library.uri),
        licenses=_licence(library.licence),
        hashes=_hashes(library.digests),
    )


def _hashes(digests: list[str]) -> list:
    from cyclonedx.model import HashType

    return [HashType.from_composite_str(f"sha256:{digest}") for digest in digests]


def _licence(name: str | None) -> list:
    """Return a licence in CycloneDX's form: an SPDX identifier or expression where it is one, else a name."""
    from cyclonedx.factory.license import LicenseFactory

    return [LicenseFactory().make_from_string(name)] if name else []


def _purl(uri: str) -> Any:
    from packageurl import PackageURL

    return PackageURL.from_string(uri) if uri.startswith("pkg:") else None


def _model_card(made_of: Materials, data: list[str]) -> dict:
    """Return a model card as CycloneDX has it: the task, the data, and each figure of the ladder.

    :param data: references to the data sets
    """
    return {
        "modelParameters": {
            "approach": {"type": APPROACH},
            "task": TASK,
            "datasets": [{"ref": each} for each in data],
            "inputs": [{"format": "text"}],
            "outputs": [{"format": "text"}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {"type": figure.name, "value": json.dumps(figure.value), "slice": figure.of}
                for figure in made_of.figures
            ]
        },
        "considerations": {
            "useCases": made_of.uses,
            "technicalLimitations": made_of.limitations,
            "performanceTradeoffs": made_of.costs,
        },
    }
