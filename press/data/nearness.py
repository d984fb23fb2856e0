"""What texts have in common that are nearly the same."""

import unicodedata


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")


def _is_shown(character: str) -> bool:
    """Whether a character is more than a space, or a mark of no width such as a soft hyphen."""
    return not character.isspace() and unicodedata.category(character) != "Cf"


ASCII_PUNCTUATION = dict.fromkeys(code for code in range(128) if _is_punctuation(chr(code)))


def nearly(text: str) -> str:
    """Return what a text has in common with those that differ in case, Unicode form, spaces or punctuation alone."""
    if text.isascii():
        together = "".join(text.lower().split())
        alike = together.translate(ASCII_PUNCTUATION)
    else:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        together = "".join(filter(_is_shown, folded))
        alike = "".join(each for each in together if not _is_punctuation(each))
    # Of what is nothing but punctuation, that is what it says.
    return alike or together
