"""A wheel of the registry is taken by its digest, and kept."""

import zipfile

import pytest

from press.core.errors import UserError
from press.params import schema
from press.sources import wheel

# A small wheel of the registry that pip is configured for.
WHEEL = schema.PackageSource(
    name="idna",
    version="3.10",
    sha256="946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3",
    gguf="a.gguf",
    model=None,
    license=None,
    language=[],
)


@pytest.mark.integration
def test_a_wheel_with_the_pinned_digest_is_taken(tmp_path):
    assert wheel._download_wheel(WHEEL, tmp_path).name == "idna-3.10-py3-none-any.whl"


@pytest.mark.integration
def test_a_wheel_with_another_digest_is_refused_with_both(tmp_path):
    with pytest.raises(UserError) as caught:
        wheel._download_wheel(WHEEL.model_copy(update={"sha256": "0" * 64}), tmp_path)
    assert str(caught.value) == (
        f"idna-3.10-py3-none-any.whl has the SHA-256 {WHEEL.sha256}, but base.package.sha256 in params.yaml is "
        f"{'0' * 64}: the registry served another file than the pinned one"
    )


@pytest.mark.integration
def test_a_wheel_is_downloaded_once_and_a_damaged_copy_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    downloaded = wheel.pinned(WHEEL, tmp_path)
    assert downloaded.parent == tmp_path
    kept = wheel.pinned(WHEEL, tmp_path)
    assert kept.is_relative_to(tmp_path / "cache")
    assert [path.name for path in kept.parent.iterdir()] == [downloaded.name]
    kept.write_bytes(kept.read_bytes()[:-1])
    assert wheel.pinned(WHEEL, tmp_path) == downloaded
    assert wheel.pinned(WHEEL, tmp_path) == kept


@pytest.mark.integration
def test_a_cache_that_cannot_be_written_only_costs_a_download(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert wheel.pinned(WHEEL, tmp_path).parent == tmp_path


@pytest.mark.integration
def test_a_wheel_without_the_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError) as caught:
        wheel.bring(WHEEL, tmp_path / "model")
    assert str(caught.value) == "idna-3.10-py3-none-any.whl holds no a.gguf: mend base.package.gguf in params.yaml"
    assert not any((tmp_path / "model").iterdir())


@pytest.mark.integration
@pytest.mark.parametrize("update", [{"name": "no-such-package-of-olive-press"}, {"version": "0.0.0.dev9"}])
def test_a_package_that_does_not_exist_is_a_sentence(tmp_path, update):
    source = WHEEL.model_copy(update=update)
    with pytest.raises(UserError) as caught:
        wheel._download_wheel(source, tmp_path)
    requirement = f"{source.name}=={source.version}"
    assert (
        str(caught.value) == f"pip could not download {requirement}: No matching distribution found for {requirement}"
    )


def test_a_wheel_s_terms_are_its_own_and_no_code(tmp_path):
    kept = {"w-1.dist-info/licenses/LICENSE": "terms", "w-1.dist-info/NOTICE.txt": "thanks"}
    others = ("LICENSE", "w/x.dist-info/LICENSE", "w-1.dist-info/LICENSES/evil.py", "w-1.dist-info/LICENSE.py")
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
        for name in (*others, "w-1.dist-info/LICENSES/", "w-1.dist-info/LICENSES/config.json"):
            archive.writestr(name, "other")
        assert wheel.terms(archive) == {"LICENSE": b"terms", "NOTICE.txt": b"thanks"}
