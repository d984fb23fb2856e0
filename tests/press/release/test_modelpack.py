"""What an artifact may name, and how versions are sorted; test_oci.py sends one to a registry."""

import pytest

from press.core.errors import UserError
from press.release import distribution, modelpack
from press.release.distribution import Manifest

DIGEST = "sha256:" + "0" * 64


def artifact(*layers: dict, kind: object = modelpack.MODEL, **annotations: object) -> Manifest:
    value = {"artifactType": kind, "layers": [*layers], "annotations": annotations}
    return Manifest(b"", DIGEST, value)


def layer(name: object, **values: object) -> dict:
    about = {"digest": DIGEST, "size": 1, "annotations": {modelpack.FILEPATH: name}}
    return about | values


def test_each_file_has_its_layer():
    found = modelpack.layers(artifact(layer("model.onnx"), layer("adapters/travel/adapter.json")), "here")
    assert list(found) == ["model.onnx", "adapters/travel/adapter.json"]


@pytest.mark.parametrize(
    "layers",
    [
        *([layer(name)] for name in ("/etc/passwd", "../x", "a/../../x", "", ".", "a//b", "a\\b", "a\nb", None, 1)),
        [layer("a"), layer("a")],
        [layer("a", digest="sha256:../../x")],
        [layer("a", size="1")],
        [layer("a", size=True)],
        [layer("a", size=-1)],
        [layer("a"), layer("a/b")],
        [layer("a/b/c"), layer("a/b")],
        [layer("a" * 256)],
        [layer("ä" * 128)],
        [["a"]],
        [{"digest": DIGEST, "size": 1}],
        ["a"],
    ],
)
def test_an_artifact_that_names_anything_but_files_below_a_folder_is_no_release(layers):
    with pytest.raises(UserError, match=f"^here@{DIGEST} is no release: publish.oci.repository in params.yaml"):
        modelpack.layers(artifact(*layers), "here")


@pytest.mark.parametrize("kind", ["application/vnd.oci.image.config.v1+json", None])
def test_an_artifact_of_another_type_is_no_release(kind):
    with pytest.raises(UserError, match="is no release"):
        modelpack.layers(artifact(kind=kind), "here")


def test_what_an_artifact_says_of_itself_counts_and_not_its_tag():
    about = {modelpack.VERSION: "0.1.0", modelpack.PACKAGE: "a" * 64, modelpack.CREATED: "2026-01-02T03:04:05+00:00"}
    mine = artifact(**about, **{modelpack.METRICS: "travel 1.5"})
    found = modelpack.version("0.1.0", mine, {"prod": DIGEST, "staging": "sha256:other"})
    assert (found.digest, found.date, found.metrics, found.stages) == (
        "a" * 64,
        "2026-01-02 03:04",
        "travel 1.5",
        ["prod"],
    )
    moved = modelpack.version("0.2.0", mine, {"prod": DIGEST})
    assert (moved.digest, moved.metrics, moved.stages) == ("", "moved to 0.1.0", [])


@pytest.mark.parametrize("value", [{"annotations": []}, {"annotations": {modelpack.VERSION: 1}}, {}])
def test_annotations_that_are_none_are_no_version(value):
    assert modelpack.version("0.1.0", Manifest(b"", DIGEST, value), {}).digest == ""


def test_lists_of_a_manifest_may_hold_anything():
    found = distribution.Manifest(b"", DIGEST, {"layers": [1, {"a": 1}], "manifests": 7, "subject": []})
    assert (found.listed("layers"), found.listed("manifests"), found.subject) == ([{"a": 1}], [], None)


def test_versions_are_sorted_by_their_numbers():
    shuffled = ["1.0.0", "0.10.0", "0.9.0", "0.10.0-rc.1"]
    assert sorted(shuffled, key=modelpack.order) == ["0.9.0", "0.10.0-rc.1", "0.10.0", "1.0.0"]
