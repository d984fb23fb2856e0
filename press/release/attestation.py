"""What is said of an artifact by its digest: the SLSA provenance, signed as a release is, in a Sigstore bundle.

https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md. Without a signature it is a bare in-toto statement.
model-signing has signers and verifiers of folders alone; those below them sign any statement, but have no public name.
"""

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from press.core.errors import UserError
from press.model import packaged
from press.release import signature
from press.release.settings import Signing

if TYPE_CHECKING:
    from model_signing._signing.signing import Signature, Signer, Verifier

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT = "application/vnd.in-toto+json"
# Of the statement in a bundle.
PAYLOAD = "application/vnd.in-toto+json"
# What a model signature says; its files are the artifact's.
MODEL_SIGNATURE = "https://model_signing/signature/v1.0"


def about(digest: str, name: str, stated: dict) -> dict:
    """Return a release's provenance as a statement about the artifact that holds it.

    :param digest: of the artifact, with its algorithm
    :param name: of the artifact, the same in whatever registry it is
    :param stated: the release's own statement
    """
    algorithm, _, hex_digest = digest.partition(":")
    return {**stated, "subject": [{"name": name, "digest": {algorithm: hex_digest}}]}


def annotations(media_type: str, predicate: str) -> dict[str, str]:
    """Return what cosign, or BuildKit for a bare statement, writes beside one to tell it from others."""
    if media_type == STATEMENT:
        return {"in-toto.io/predicate-type": predicate}
    return {"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": predicate}


def signed(statement: dict, signing: Signing) -> bytes:
    """Return a statement, signed, as a Sigstore bundle.

    :raises UserError: if the key, the certificate or the identity is not there or does not fit
    """
    from google.protobuf import json_format
    from in_toto_attestation.v1 import statement_pb2

    message = json_format.ParseDict(statement, statement_pb2.Statement())
    with signature.failing("the provenance could not be signed"), tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "bundle"
        # A signer asks its payload for nothing else.
        payload: Any = SimpleNamespace(statement=SimpleNamespace(pb=message))
        _signer(signing).sign(payload).write(path)
        return path.read_bytes()


def mismatch(content: bytes, expected: dict, signing: Signing | None) -> str:
    """Return why a bundle does not say what is expected, signed by whom params.yaml names; empty if it does.

    :param signing: None for a bare statement, which nobody signed
    """
    try:
        said = packaged.parse(content.decode() if signing is None else _verified(content, signing).decode())
    except UserError as error:
        return str(error)
    except (ValueError, RecursionError):
        return "no statement in JSON"
    return "" if said == expected else "a statement about something else"


def _verified(content: bytes, signing: Signing) -> bytes:
    """Return the statement of a bundle whose signature holds."""
    with signature.failing("a signature does not hold"), tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "bundle"
        path.write_bytes(content)
        verifier, kind = _verifier(signing)
        media_type, payload = verifier._verify_signed_content(kind.read(path))
        if media_type != PAYLOAD:
            raise ValueError(f"it is signed as {media_type}")
    return payload


def _signer(signing: Signing) -> "Signer":
    from model_signing._signing import sign_certificate, sign_ec_key, sign_sigstore

    match signing.mode:
        case "key":
            return sign_ec_key.Signer(signature.private_key(signing))
        case "certificate":
            named = signing.certificate
            chain = [Path(each) for each in named.chain]
            return sign_certificate.Signer(signature.private_key(signing), Path(named.certificate), chain)
        case "sigstore":
            return sign_sigstore.Signer(use_ambient_credentials="CI" in os.environ)


def _verifier(signing: Signing) -> "tuple[Verifier, type[Signature]]":
    from model_signing._signing import sign_certificate, sign_ec_key, sign_sigstore, sign_sigstore_pb

    match signing.mode:
        case "key":
            return sign_ec_key.Verifier(Path(signing.key.public)), sign_sigstore_pb.Signature
        case "certificate":
            chain = [Path(each) for each in signing.certificate.chain]
            return sign_certificate.Verifier(chain), sign_sigstore_pb.Signature
        case "sigstore":
            who = signing.sigstore
            return sign_sigstore.Verifier(identity=who.identity, oidc_issuer=who.issuer), sign_sigstore.Signature
