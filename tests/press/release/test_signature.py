"""Whether a release has to be signed, and with which key; test_bundle.py signs and checks."""

from pathlib import Path

import platformdirs
import pytest
import yaml
from projects import ROOT

from press.core.errors import UserError
from press.release import signature
from press.release.settings import Signing


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder, where a key of his may be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(platformdirs, "user_config_path", lambda name: tmp_path / "config" / name)
    return tmp_path / "config/olive-press"


def signing(**values: object) -> Signing:
    given = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["signing"]
    who = {"certificate": {"private": "a", "certificate": "b", "chain": ["c"]}}
    return Signing(**given | who | {"sigstore": {"identity": "me", "issuer": "x"}} | values)


@pytest.mark.parametrize(
    ("values", "public", "reason"),
    [
        ({}, False, ""),
        ({}, True, "signing.pub is there to check it with, and signing.required is not false"),
        ({"required": False}, True, ""),
        ({"required": True}, False, "signing.required is true in params.yaml"),
        ({"mode": "certificate"}, False, "signing.mode is certificate in params.yaml, and signing.required is not"),
        ({"mode": "sigstore"}, False, "signing.mode is sigstore in params.yaml, and signing.required is not false"),
        ({"mode": "sigstore", "required": False}, True, ""),
    ],
)
def test_what_params_yaml_or_a_public_key_asks_for(values, public, reason):
    if public:
        Path("signing.pub").touch()
    why = signature.why_required(signing(**values))
    assert why.startswith(reason)
    assert bool(why) == bool(reason)


def test_the_key_is_the_named_one_or_else_the_user_s_own(config):
    assert signature.private_key(signing()) == config / "signing.pem"
    assert signature.private_key(signing(key={"private": "mine.pem", "public": "x"})) == Path("mine.pem")
    assert signature.private_key(signing(mode="certificate")) == Path("a")
    for mode in ("key", "certificate"):
        assert not signature.can_sign(signing(mode=mode))
    # It asks for the identity when it signs.
    assert signature.can_sign(signing(mode="sigstore"))


@pytest.mark.parametrize(("mode", "missing"), [("key", "signing.pub"), ("certificate", "c"), ("sigstore", None)])
def test_what_signatures_are_checked_with_must_be_there(mode, missing):
    if missing is None:
        signature.check_public(signing(mode=mode))
        return
    with pytest.raises(UserError, match=rf"^{missing} is missing, with which signatures are checked"):
        signature.check_public(signing(mode=mode))
    Path(missing).touch()
    signature.check_public(signing(mode=mode))


@pytest.mark.parametrize("there", ["private", "public"])
def test_no_half_of_a_pair_is_made_anew(config, there):
    private, public = signature.make_key(signing())
    assert private.stat().st_mode & 0o077 == 0
    kept = {"private": private, "public": public}[there]
    {private, public}.difference({kept}).pop().unlink()
    before = kept.read_bytes()
    with pytest.raises(UserError, match=f"{kept} exists: remove it first"):
        signature.make_key(signing())
    assert [path for path in (private, public) if path.exists()] == [kept]
    assert kept.read_bytes() == before
