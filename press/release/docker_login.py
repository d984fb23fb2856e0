"""Who logs in to a registry of OCI artifacts: the environment says it, or else what `docker login` left.

https://docs.docker.com/reference/cli/docker/login/#credential-stores
"""

import base64
import binascii
import json
import os
from dataclasses import dataclass
from pathlib import Path

from press.core import shell
from press.core.errors import UserError

USERNAME, PASSWORD = "OCI_USERNAME", "OCI_PASSWORD"
HELPER_SECONDS = 60
# The user's name with which a helper says that the secret is a refresh token.
TOKEN_USER = "<token>"


@dataclass(frozen=True, repr=False)
class Login:
    """A user's name and password, or a refresh token; neither is ever shown."""

    username: str = ""
    password: str = ""
    refresh_token: str = ""

    def __bool__(self) -> bool:
        return bool(self.password or self.refresh_token)

    @property
    def basic(self) -> str:
        """The value of the header Authorization with the name and the password."""
        # As the environment has it, which may be no UTF-8.
        said = f"{self.username}:{self.password}".encode(errors="surrogateescape")
        return "Basic " + base64.b64encode(said).decode()


def find(registry: str) -> Login:
    """Return the login for a registry, an empty one if nobody knows one.

    :raises UserError: if docker's config cannot be read, or its helper fails
    """
    if os.environ.get(PASSWORD):
        return Login(os.environ.get(USERNAME, ""), os.environ[PASSWORD])
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        return _configured(json.loads(path.read_text(encoding="utf-8")), registry)
    except FileNotFoundError:
        return Login()
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        # What stands in it is nobody's to read.
        raise UserError(f"{path} is no config of docker's that can be read: `docker login {registry}`") from error


def _configured(config: dict, registry: str) -> Login:
    helper = config.get("credHelpers", {}).get(registry) or config.get("credsStore")
    if helper and (login := _helped(helper, registry)):
        return login
    for name, entry in config.get("auths", {}).items():
        if name.removeprefix("https://").partition("/")[0] == registry:
            return _decoded(entry)
    return Login()


def _decoded(entry: dict) -> Login:
    try:
        username, _, password = base64.b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
    except binascii.Error as error:
        raise ValueError("auth is not in base64") from error
    return Login(username, password, entry.get("identitytoken", ""))


def _helped(helper: str, registry: str) -> Login:
    """Ask a program of docker's that keeps passwords."""
    program = f"docker-credential-{helper}"
    asked = shell.run(program, "get", given=registry, seconds=HELPER_SECONDS)
    if asked.code is None:
        raise UserError(
            f"{program}, which docker's config names, does not work here ({asked.reason}): install it, or set "
            f"{USERNAME} and {PASSWORD}"
        )
    if asked.failed:
        # It has none for this registry.
        return Login()
    credentials = json.loads(asked.output)
    if credentials["Username"] == TOKEN_USER:
        return Login(refresh_token=credentials["Secret"])
    return Login(credentials["Username"], credentials["Secret"])
