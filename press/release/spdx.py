"""The bill of materials in SPDX's form, by its profiles for AI and for data sets.

https://spdx.github.io/spdx-spec/v3.0.1/model/AI/AI/. Its bytes follow from the release and the commit that it was built
from: the commit's time is that of the release, and identifiers are made of the package's digest.
"""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from press.release import licences
from press.release.materials import APPROACH, TASK, Adapter, Figure, Material, Materials

if TYPE_CHECKING:
    from spdx_python_model.bindings.v3_0_1 import model

# The library's word for no licence, which SPDX's own schema takes in full alone.
SHORT = "expandedlicensing_NoAssertionLicense"
PROFILES = ("core", "software", "ai", "dataset")
# The profiles ask of whom nobody names for an agent, and of what was released elsewhere for a time.
UNKNOWN = "Nobody is named: publish.supplier of params.yaml is empty, or its source does not say."
ELSEWHERE = "Its source does not say when it was made or released: the time is that of the release that it is part of."


def document(made_of: Materials, supplier: str, source: str, time: datetime) -> dict:
    """Return the bill of materials, ready for JSON.

    :param supplier: of the release and of what is the project's own; empty if nobody is named
    :param source: the address of the commit that the release was built from
    :param time: of that commit
    """
    from spdx_python_model.bindings.v3_0_1 import model

    writer = _Writer(made_of.digest, supplier, source, time)
    writer.release(made_of)
    written = model.JSONLDSerializer().serialize_data(writer.objects)
    for each in written["@graph"]:
        if each.get("to") == [SHORT]:
            each["to"] = [model.expandedlicensing_IndividualLicensingInfo.NoAssertionLicense]
    return written


class _Writer:
    """The elements of one document, which `release` adds."""

    def __init__(self, digest: str, supplier: str, source: str, time: datetime) -> None:
        from spdx_python_model.bindings.v3_0_1 import model

        self._model, self.objects = model, model.SHACLObjectSet()
        self._prefix, self._supplier, self._source, self._time = f"urn:olive-press:{digest}#", supplier, source, time
        self._known: dict[str, Any] = {}
        self._info = model.CreationInfo(specVersion="3.0.1", created=time)
        self._info.createdBy = [self._element("SoftwareAgent", "writer", name="olive-press")]

    def release(self, made_of: Materials) -> None:
        base = self._base(made_of.base)
        root = self._package(made_of)
        self._relate(root, "descendantOf", base)
        self._relate(root, "dependsOn", *(self._library(each) for each in made_of.libraries))
        adapters = {each.name: self._adapter(each, made_of) for each in made_of.adapters}
        self._relate(root, "contains", *adapters.values())
        trained = {adapter.data for adapter in made_of.adapters}
        data = {each.name: self._data(each) for each in made_of.data}
        for adapter in made_of.adapters:
            self._relate(adapters[adapter.name], "dependsOn", base)
            self._relate(adapters[adapter.name], "trainedOn", *(data[name] for name in data if name == adapter.data))
        self._relate(root, "hasDataFile", *(data[name] for name in data if name == made_of.calibration))
        self._relate(root, "testedOn", *(data[name] for name in data if name not in {*trained, made_of.calibration}))
        self._element(
            "SpdxDocument",
            "document",
            name=f"{made_of.name} {made_of.digest[:12]}",
            profileConformance=[getattr(self._model.ProfileIdentifierType, profile) for profile in PROFILES],
            rootElement=[root],
            element=[*self._known.values()],
        )

    def _package(self, made_of: Materials) -> "model.ai_AIPackage":
        return self._ai(
            "package",
            name=made_of.name,
            description=made_of.description,
            software_packageVersion=made_of.digest[:12],
            verifiedUsing=self._hashes({made_of.digest: "manifest.json, which names every file of the package"}),
            ai_hyperparameter=self._entries(made_of.parameters),
            ai_metric=self._metrics(made_of.figures),
            ai_informationAboutApplication="\n".join(made_of.uses),
            ai_limitation="\n".join(made_of.limitations),
        )

    def _adapter(self, adapter: Adapter, made_of: Materials) -> "model.ai_AIPackage":
        own = [figure for figure in made_of.figures if figure.of.startswith(f"{adapter.name}: ")]
        return self._ai(
            f"adapter/{adapter.name}",
            name=adapter.name,
            software_packageVersion=made_of.digest[:12],
            verifiedUsing=self._hashes({digest: name for name, digest in adapter.files.items()}),
            ai_hyperparameter=self._entries(adapter.parameters),
            ai_metric=self._metrics(own),
            ai_informationAboutTraining=adapter.use,
            **({"ai_limitation": adapter.limitation} if adapter.limitation else {}),
        )

    def _base(self, base: Material) -> "model.ai_AIPackage":
        return self._ai(
            "base",
            licence=base.licence,
            name=base.name,
            description=base.description,
            comment=ELSEWHERE,
            software_packageVersion=base.version,
            suppliedBy=self._agent(base.owner),
            software_downloadLocation=base.uri,
            verifiedUsing=self._hashes(dict.fromkeys(base.digests)),
            **_purl(base.uri),
        )

    def _ai(self, name: str, /, licence: str | None = None, **about: object) -> "model.ai_AIPackage":
        """Write a model with all that the profile asks for; what is not said holds for the release."""
        element = self._element(
            "ai_AIPackage",
            name,
            **{
                "software_primaryPurpose": self._model.software_SoftwarePurpose.model,
                "releaseTime": self._time,
                "suppliedBy": self._agent(self._supplier),
                "software_downloadLocation": self._source,
                "ai_domain": [TASK],
                "ai_typeOfModel": [APPROACH],
            }
            | about,
        )
        self._license(element, licence, "hasDeclaredLicense", "hasConcludedLicense")
        return element

    def _data(self, data: Material) -> "model.dataset_DatasetPackage":
        ours = data.uri == data.name
        element = self._element(
            "dataset_DatasetPackage",
            f"data/{data.name}",
            name=data.name,
            software_packageVersion=data.version,
            software_primaryPurpose=self._model.software_SoftwarePurpose.data,
            software_downloadLocation=f"{self._source}#{quote(data.name)}" if ours else data.uri,
            builtTime=self._time,
            releaseTime=self._time,
            originatedBy=[self._agent(self._supplier if ours else data.owner)],
            verifiedUsing=self._hashes(dict.fromkeys(data.digests)),
            dataset_datasetType=[self._model.dataset_DatasetType.text],
            **({} if ours else {"comment": ELSEWHERE}),
        )
        self._license(element, data.licence, "hasDeclaredLicense", "hasConcludedLicense")
        return element

    def _library(self, library: Material) -> "model.software_Package":
        element = self._element(
            "software_Package",
            f"library/{library.name}",
            name=library.name,
            software_packageVersion=library.version,
            software_primaryPurpose=self._model.software_SoftwarePurpose.library,
            verifiedUsing=self._hashes(dict.fromkeys(library.digests)),
            **_purl(library.uri),
        )
        self._license(element, library.licence, "hasDeclaredLicense")
        return element

    def _license(self, element: Any, licence: str | None, *kinds: str) -> None:
        for kind in kinds:
            self._relate(element, kind, self._licence(licence))

    def _licence(self, words: str | None) -> Any:
        """Return the element of a licence: an expression of SPDX's, or else its own words."""
        if not words:
            return self._model.expandedlicensing_IndividualLicensingInfo.NoAssertionLicense
        expression = licences.spdx_expression(words)
        if not expression:
            return self._element(
                "expandedlicensing_CustomLicense", f"licence/{words}", name=words, simplelicensing_licenseText=words
            )
        return self._element(
            "simplelicensing_LicenseExpression",
            f"licence/{expression}",
            simplelicensing_licenseExpression=expression,
        )

    def _agent(self, name: str) -> "model.Agent":
        about = {"name": name} if name else {"comment": UNKNOWN}
        return self._element("Agent", f"agent/{name}", **about)

    def _hashes(self, digests: dict[str, str | None]) -> list:
        """Return the SHA-256 of something, each with what it is of, unless it is of all."""
        return [
            self._model.Hash(
                algorithm=self._model.HashAlgorithm.sha256, hashValue=digest, **({"comment": what} if what else {})
            )
            for digest, what in digests.items()
        ]

    def _entries(self, values: dict[str, object]) -> list:
        return [self._model.DictionaryEntry(key=key, value=json.dumps(value)) for key, value in values.items()]

    def _metrics(self, figures: list[Figure]) -> list:
        return self._entries({f"{figure.of}: {figure.name}": figure.value for figure in figures})

    def _relate(self, element: Any, kind: str, *others: Any) -> None:
        if others:
            about = {"from_": element, "relationshipType": getattr(self._model.RelationshipType, kind), "to": [*others]}
            self._element("Relationship", f"{element.get_id().removeprefix(self._prefix)}/{kind}", **about)

    def _element(self, kind: str, name: str, /, **about: object) -> Any:
        """Return an element of the document, which is written once."""
        if name not in self._known:
            each = getattr(self._model, kind)(_id=self._prefix + quote(name), creationInfo=self._info)
            for key, value in about.items():
                setattr(each, key, value)
            self._known[name] = self.objects.add(each)
        return self._known[name]


def _purl(uri: str) -> dict[str, str]:
    return {"software_packageUrl": uri} if uri.startswith("pkg:") else {}
