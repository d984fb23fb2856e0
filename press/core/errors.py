"""The one exception for mistakes that a user can mend."""

from press.core.redaction import printable, redacted, shortened


class UserError(Exception):
    """A mistake in the input; the message is one sentence that says what is wrong and what would be right.

    It often quotes another program, whose addresses may hold a password, and a value, which may be long or control a
    terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(shortened(printable(line)) for line in redacted(message).split("\n")))
