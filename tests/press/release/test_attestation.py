"""A statement about an artifact holds if it is the expected one and signed by whom params.yaml names."""

import json
from pathlib import Path

import pytest
import yaml
from projects import ROOT

from press.core.errors import UserError
from press.release import attestation, signature
from press.release.settings import Signing

from .test_bundle import certificates

# The import of model-signing starts a process.
pytestmark = pytest.mark.integration
STATED = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": "model.onnx", "digest": {"sha256": "1" * 64}}],
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {"buildDefinition": {"externalParameters": {"seed": 42, "rate": 0.0002}}},
}
ABOUT = attestation.about("sha256:" + "a" * 64, "release 0.1.0", STATED)


def signing(folder: Path, mode: str) -> Signing:
    """Return a signing block with new keys of its own."""
    folder.mkdir()
    given = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["signing"]
    key = {"private": str(folder / "key.pem"), "public": str(folder / "key.pub")}
    result = Signing(**given | {"mode": mode, "key": key, "certificate": certificates(folder / "pki")})
    if mode == "key":
        signature.make_key(result)
    return result


@pytest.mark.parametrize("mode", ["key", "certificate"])
def test_a_signed_statement_holds_for_its_signer_and_its_artifact_alone(tmp_path, mode):
    mine, others = signing(tmp_path / "mine", mode), signing(tmp_path / "others", mode)
    bundle = attestation.signed(ABOUT, mine)
    assert json.loads(bundle)["mediaType"] == attestation.BUNDLE
    assert attestation.mismatch(bundle, ABOUT, mine) == ""
    assert attestation.mismatch(bundle, ABOUT, others).startswith("a signature does not hold: ")
    elsewhere = attestation.about("sha256:" + "b" * 64, "release 0.1.0", STATED)
    assert attestation.mismatch(bundle, elsewhere, mine) == "a statement about something else"
    changed = json.loads(bundle)
    changed["dsseEnvelope"]["payload"] = json.loads(attestation.signed(elsewhere, others))["dsseEnvelope"]["payload"]
    assert attestation.mismatch(json.dumps(changed).encode(), elsewhere, mine).startswith("a signature does not hold")


def test_a_statement_that_nobody_signed_holds_where_none_has_to_be(tmp_path):
    mine = signing(tmp_path / "mine", "key")
    bare = json.dumps(ABOUT).encode()
    assert attestation.mismatch(bare, ABOUT, None) == ""
    assert attestation.mismatch(bare, ABOUT, mine).startswith("a signature does not hold")
    assert attestation.mismatch(bare, STATED, None) == "a statement about something else"
    assert attestation.mismatch(b"\xff{", ABOUT, None) == "no statement in JSON"


def test_a_key_that_is_not_there_is_a_sentence(tmp_path):
    mine = signing(tmp_path / "mine", "key")
    Path(mine.key.private).unlink()
    with pytest.raises(UserError, match=r"^the provenance could not be signed: .*key\.pem"):
        attestation.signed(ABOUT, mine)
