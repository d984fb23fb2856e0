"""No secret of an address is shown: neither a password or token before its host, nor what a query says."""

import re

USER = re.compile(r"(?<=://)[^/\s\"`<>]*@")
# Punctuation of the sentence that an address ends does not belong to it.
QUERY = re.compile(r"(://[^\s\"`<>?#]*)[?#][^\s'\"`<>]*[^\s'\"`<>.,:;)]")
# Of an Azure connection string.
KEY = re.compile(r"\b(AccountKey|SharedAccessSignature)=[^;\s'\"]+", re.IGNORECASE)


def redacted(text: str) -> str:
    """Return a text without user, password, query and fragment of each URL in it, nor keys of connection strings."""
    return KEY.sub(r"\1=***", QUERY.sub(r"\1", USER.sub("", text)))
