"""Azure's login, and its errors as sentences."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError
    from azure.identity import DefaultAzureCredential

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def limits(timeout: float) -> dict[str, Any]:
    """Return the options that bound each call: the SDK's own, five minutes a try, keep a user waiting for twenty."""
    return {"connection_timeout": timeout, "read_timeout": timeout}


def credential(timeout: float) -> "DefaultAzureCredential":
    """Return the caller's Azure identity, found by azure-identity's chain: environment, workload, CLI and others."""
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential(**limits(timeout))


def sentence(error: "AzureError", verb: str, failed: str, what: str) -> str:
    """Say why Azure did not do something, and what to do about it.

    :param verb: what the caller may not do, such as "read"
    :param failed: what could not be done, such as "downloaded"
    :param what: to which it could not be done
    """
    from azure.core.exceptions import ClientAuthenticationError

    # A refusal has a status and, from some calls only, this type; without a status there was nobody to refuse.
    status = getattr(error, "status_code", None)
    if status in {401, 403}:
        return f"Azure does not let you {verb} {what}: log in as somebody who may ({first_line(error)})"
    if isinstance(error, ClientAuthenticationError):
        return f"no Azure login worked for {what} (the reasons are above): run `az login`"
    return f"{what} could not be {failed}: {first_line(error)}; check the connection to Azure and try again"


def first_line(error: Exception) -> str:
    """Return the first line of an error's text that says something, without the colours that the SDK gives it."""
    text = COLOUR.sub("", str(error))
    return next((line for line in text.splitlines() if line.strip()), type(error).__name__)
