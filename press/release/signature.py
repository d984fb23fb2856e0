"""Who vouches for a release: OpenSSF model-signing over the whole folder, by key, certificate or Sigstore identity.

    python -m press.release.signature       make a key pair to sign with (`make signing-key`)

https://github.com/sigstore/model-transparency
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from press.core import paths
from press.core.errors import UserError
from press.release import settings
from press.release.settings import Signing


def private_key(signing: Signing) -> Path:
    """Return the file of the private key: the one of params.yaml, or else the user's own."""
    named = signing.certificate.private if signing.mode == "certificate" else signing.key.private
    return Path(named).expanduser() if named else platformdirs.user_config_path("olive-press") / "signing.pem"


def why_required(signing: Signing) -> str:
    """Return why a release must be signed; empty if it need not be."""
    if signing.required != "auto":
        return "signing.required is true in params.yaml" if signing.required else ""
    if signing.mode != "key":
        return f"signing.mode is {signing.mode} in params.yaml, and signing.required is not false"
    public = Path(signing.key.public)
    return f"{public} is there to check it with, and signing.required is not false" if public.exists() else ""


def can_sign(signing: Signing) -> bool:
    """Whether there is something to sign with; Sigstore asks for the identity when it signs."""
    return signing.mode == "sigstore" or private_key(signing).exists()


def sign(folder: Path, signing: Signing) -> None:
    """Sign all files of a folder, into its file `model.sig`.

    :raises UserError: if the key, the certificate or the identity is not there or does not fit
    """
    from model_signing import hashing
    from model_signing.signing import Config

    path = folder / paths.SIGNATURE
    config = Config().set_hashing_config(
        hashing.Config().set_ignored_paths(paths=[paths.SIGNATURE], ignore_git_paths=False)
    )
    with failing(f"{folder} could not be signed"):
        match signing.mode:
            case "key":
                config.use_elliptic_key_signer(private_key=private_key(signing))
            case "certificate":
                config.use_certificate_signer(
                    private_key=private_key(signing),
                    signing_certificate=Path(signing.certificate.certificate),
                    certificate_chain=[Path(each) for each in signing.certificate.chain],
                )
            case "sigstore":
                config.use_sigstore_signer(use_ambient_credentials="CI" in os.environ)
        config.sign(folder, path)


def check_public(signing: Signing) -> None:
    """Refuse to sign or check without the files that signatures are checked with.

    :raises UserError: naming the first one that is missing
    """
    named = {"key": [signing.key.public], "certificate": signing.certificate.chain, "sigstore": []}[signing.mode]
    for path in named:
        if not Path(path).is_file():
            raise UserError(
                f"{path} is missing, with which signatures are checked: bring it back, or name another one in "
                "`signing` of params.yaml"
            )


def check(folder: Path, signing: Signing) -> str:
    """Check a folder's signature; return in words who signed it.

    :raises UserError: if it is not signed by whom params.yaml names, or a file is not what was signed, naming it
    """
    from model_signing.verifying import Config

    check_public(signing)
    config = Config()
    with failing(f"the signature of {folder} does not hold"):
        match signing.mode:
            case "key":
                config.use_elliptic_key_verifier(public_key=Path(signing.key.public))
                signer = f"the key {signing.key.public}"
            case "certificate":
                config.use_certificate_verifier(certificate_chain=[Path(each) for each in signing.certificate.chain])
                signer = f"a certificate of {signing.certificate.chain[-1]}"
            case "sigstore":
                who = signing.sigstore
                config.use_sigstore_verifier(identity=who.identity, oidc_issuer=who.issuer)
                signer = f"{who.identity}, says {who.issuer}"
        config.verify(folder, folder / paths.SIGNATURE)
    return signer


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """Turn what model-signing raises into a sentence."""
    try:
        yield
    except Exception as error:
        # The library has no type of its own: it raises ValueError, OSError, and what cryptography and sigstore raise.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what}: {reason}; see `signing` in params.yaml") from error


def make_key(signing: Signing) -> tuple[Path, Path]:
    """Make a P-256 key pair; return the files of the private and the public key.

    :raises UserError: if there is one: what it signed could not be checked any more; or if they cannot be written
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private, public = private_key(signing), Path(signing.key.public)
    for path in (private, public):
        if path.exists():
            raise UserError(f"{path} exists: remove it first if nothing that it signed has to be checked any more")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    content = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        # The public one first: without the private one it can be made anew.
        public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
        _write_new(private, content)
    except OSError as error:
        public.unlink(missing_ok=True)
        raise UserError(
            f"{error.filename or private} cannot be made ({error.strerror}): let `signing.key` of params.yaml name "
            "files where you may write"
        ) from error
    return private, public


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        path.unlink()
        raise


if __name__ == "__main__":
    try:
        made, shown = make_key(settings.load().signing)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{made}: the private key; keep it to yourself\n{shown}: the public key; commit it")
