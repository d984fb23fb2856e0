"""A statement is about exactly the files that are there; test_bundle.py asks it of whole releases."""

from pathlib import Path

import pytest

from press.core import files
from press.core.errors import UserError
from press.release import provenance
from press.release.package import Package

COMMIT = "1" * 40


def written(folder: Path, subjects: dict[str, str]) -> None:
    """Write a statement about files by their digests."""
    definition = {
        "buildType": provenance.BUILD,
        "externalParameters": {"seed": 42},
        "resolvedDependencies": [{"uri": "git+local", "digest": {"gitCommit": COMMIT}}],
    }
    statement = {
        "_type": provenance.STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()],
        "predicateType": provenance.PREDICATE,
        "predicate": {
            "buildDefinition": definition,
            "runDetails": {"builder": {"id": provenance.LOCAL_BUILDER, "version": {"dvc": "3"}}},
        },
    }
    files.write_json(folder / "provenance.json", statement)


@pytest.mark.parametrize(
    ("stated", "wrong"),
    [
        ({"a": "1", "b": "2"}, None),
        ({"a": "1"}, "b"),
        ({"a": "1", "b": "3"}, "b"),
        ({"a": "1", "b": "2", "c": "3"}, "c"),
    ],
)
def test_a_file_too_many_too_few_or_other_than_stated_is_named(tmp_path, stated, wrong):
    written(tmp_path, stated)
    # Neither can name itself.
    release = Package(tmp_path, {}, {"a": "1", "b": "2", "provenance.json": "4", "model.sig": "5"})
    if wrong is None:
        assert provenance.check(release) == COMMIT
        return
    with pytest.raises(UserError) as caught:
        provenance.check(release)
    assert str(caught.value) == (
        f"{tmp_path / wrong} is not what provenance.json says: build or fetch the release again"
    )
