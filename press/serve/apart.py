"""What may crash or never end, in a process of its own: a package's chat template, and compiling a schema.

As app.py's `Apart`, but here a schema may be a client's, so that each kind has a process and a time of its own: one
client's schema must not keep the others' conversations waiting.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from press.core import apart
from press.core.apart import ApartError

TEMPLATE, SCHEMA = "chat template", "response schema"
NO_TEMPLATE = "Empty chat template"


class Apart(apart.Apart):
    """A process that applies a package's chat template, or compiles schemas for its tokenizer.

    :param seconds: how long one answer may take
    :raises ApartError: if the tokenizer cannot be read
    """

    def __init__(self, package: Path, seconds: float) -> None:
        super().__init__(_answering, str(package), seconds=seconds)
        self.start()

    def apply(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str | None:
        """Return the text that the model is given for a conversation, or None if there is no template.

        :param tools: what the model may call
        :raises ApartError: if the template refuses the conversation, crashes or takes too long
        """
        return self(TEMPLATE, json.dumps(messages), json.dumps(tools) if tools else None)

    def compile(self, schema: str) -> None:
        """Try to compile a schema.

        :raises ApartError: if answers cannot be held to it, or that cannot be told in time
        """
        self(SCHEMA, schema, None)


def _answering(package: str) -> Callable[[str, str, str | None], str | None]:
    """Return what answers each question, in the process."""
    import onnxruntime_genai as og

    from press.model import packaged

    try:
        tokenizer = og.Tokenizer(og.Config(package))
    except RuntimeError as error:
        raise ApartError(line(error)) from error

    def answer(what: str, data: str, tools: str | None) -> str | None:
        if what == SCHEMA:
            try:
                reason = packaged.schema_complaint(Path(package), json.loads(data))
            except RuntimeError as error:
                reason = str(error)
            if reason:
                raise ApartError(line(reason))
            return None
        try:
            # The library takes no None for what is not there.
            given = {"tools": tools} if tools else {}
            return tokenizer.apply_chat_template(data, add_generation_prompt=True, **given)
        # The latter where the template's text is no UTF-8.
        except (RuntimeError, UnicodeDecodeError) as error:
            if str(error).startswith(NO_TEMPLATE):
                return None
            raise ApartError(line(error)) from error

    return answer


def line(error: Exception | str) -> str:
    """Return an error's message on one line, without the state that llguidance appends."""
    return " ".join(str(error).partition("<state>")[0].split())
