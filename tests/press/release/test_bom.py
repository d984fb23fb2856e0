"""Both bills of materials follow from the release and its commit alone, and a review says what needs attention."""

import json
from datetime import UTC, datetime

from press.core import packages
from press.release import bom, provenance
from press.release.package import Package
from press.release.settings import Publish, Release

from .a_release import ALLOWED, put

COMMIT = {"uri": "git+https://example.com/press", "digest": {"gitCommit": "c" * 40}}


def params(supplier: str) -> Release:
    publish = Publish.model_construct(supplier=supplier)
    return Release.model_construct(publish=publish, licences=ALLOWED)


def test_they_have_the_same_bytes_again_and_others_for_another_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(provenance, "committed", lambda _: datetime(2026, 1, 2, tzinfo=UTC))
    monkeypatch.setattr(packages, "read", lambda: {"numpy": "1.0"})
    release = put()
    once, again = (bom.texts(release, params("Somebody"), COMMIT) for _ in range(2))
    assert once == again
    other = bom.texts(
        Package(release.folder, release.manifest, {"manifest.json": "4" * 64}), params("Somebody"), COMMIT
    )
    assert json.loads(once[bom.FILE])["serialNumber"] != json.loads(other[bom.FILE])["serialNumber"]
    ids = [{each.get("spdxId") for each in json.loads(texts[bom.SPDX])["@graph"]} for texts in (once, other)]
    assert ids[0] & ids[1] == {None}
    # Only the one in SPDX's form has a supplier.
    unnamed = bom.texts(release, params(""), COMMIT)
    assert [name for name in bom.FILES if unnamed[name] != once[name]] == [bom.SPDX]


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
