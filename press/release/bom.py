"""The bills of materials of a release, in CycloneDX's form and in SPDX's, and what a reviewer asks of them."""

import json
from collections import Counter
from pathlib import Path

from press.release import cyclonedx, licences, materials, provenance, spdx
from press.release.package import Package
from press.release.settings import Licences, Release

FILE, SPDX = "bom.cdx.json", "bom.spdx3.json"
FILES = (FILE, SPDX)


def write(release: Package, params: Release, folder: Path) -> None:
    """Write the bills of materials of a package with its figures, built from the commit at HEAD, into a folder."""
    for name, text in texts(release, params, provenance.commit()).items():
        (folder / name).write_text(text, encoding="utf-8")


def texts(release: Package, params: Release, commit: dict) -> dict[str, str]:
    """Return each bill of materials as JSON.

    :param release: a package with what was measured of it beside it
    :param commit: that it was built from, as its provenance names it
    """
    made_of, digest = materials.collect(release, params.licences), commit["digest"]["gitCommit"]
    source, time = f"{commit['uri']}@{digest}", provenance.committed(digest)
    documents = {
        FILE: cyclonedx.document(made_of),
        SPDX: spdx.document(made_of, params.publish.supplier, source, time),
    }
    return {
        name: json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        for name, document in documents.items()
    }


def review(bom: dict, allowed: Licences) -> list[str]:
    """Say in lines what a reviewer asks of a bill of materials, what needs attention first.

    :param bom: in CycloneDX's form
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


def _licence_of(component: dict) -> str | None:
    for each in component.get("licenses", []):
        named = each.get("license", {})
        return each.get("expression") or named.get("id") or named.get("name")
    return None
