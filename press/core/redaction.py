"""What is left out of texts that are shown: the secrets of addresses, and the middle of what is long.

Of an address those are a password or token before its host, and what a query says.
"""

import re

USER = re.compile(r"(?<=://)[^/\s\"`<>]*@")
# Punctuation of the sentence that an address ends does not belong to it.
QUERY = re.compile(r"(://[^\s\"`<>?#]*)[?#][^\s'\"`<>]*[^\s'\"`<>.,:;)]")
# Of an Azure connection string.
KEY = re.compile(r"\b(AccountKey|SharedAccessSignature)=[^;\s'\"]+", re.IGNORECASE)
# What a terminal obeys instead of showing it; a line may have tabs.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
# Of a line of a message: what a library says and what a user wrote may be of any length.
LONGEST = 1000


def redacted(text: str) -> str:
    """Return a text without user, password, query and fragment of each URL in it, nor keys of connection strings."""
    return KEY.sub(r"\1=***", QUERY.sub(r"\1", USER.sub("", text)))


def printable(line: str) -> str:
    """Return a line with an escape for each control character, as Python writes it."""
    return CONTROL.sub(lambda character: repr(character[0])[1:-1], line)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return a text in whose middle characters are left out if there are too many: what and why are at its ends."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} [... {len(text) - 2 * half} more characters ...] {text[-half:]}"
