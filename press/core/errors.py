"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
    """A mistake in the input; the message is one sentence that says what is wrong and what would be right."""
