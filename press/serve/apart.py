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
from press.data import chats

TEMPLATE, SCHEMA = "chat template", "response schema"
# The chat template without thoughts.
QUIET = "quiet chat template"
NO_TEMPLATE = "Empty chat template"


class Apart(apart.Apart):
    """A process that applies a package's chat template, or compiles schemas for its tokenizer.

    :param seconds: how long one answer may take
    :raises ApartError: if the tokenizer cannot be read
    """

    def __init__(self, package: Path, seconds: float) -> None:
        super().__init__(_answering, str(package), seconds=seconds)
        self.start()

    def apply(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], *, thinks: bool = True) -> str | None:
        """Return the text that the model is given for a conversation, or None if there is no template.

        :param tools: what the model may call
        :param thinks: False for no thoughts before the answer, whatever the template is settled to
        :raises ApartError: if the template refuses the conversation, crashes or takes too long
        """
        return self(TEMPLATE if thinks else QUIET, json.dumps(messages), json.dumps(tools) if tools else None)

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

    quiet = _quiet(Path(package))

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
            given |= {"template_str": quiet} if quiet and what == QUIET else {}
            return tokenizer.apply_chat_template(data, add_generation_prompt=True, **given)
        # The latter where the template's text is no UTF-8.
        except (RuntimeError, UnicodeDecodeError) as error:
            if str(error).startswith(NO_TEMPLATE):
                return None
            raise ApartError(line(error)) from error

    return answer


def _quiet(package: Path) -> str | None:
    """Return a package's chat template with thinking off, or None if it has no such choice."""
    from press.core import files

    path, config = package / "chat_template.jinja", package / "tokenizer_config.json"
    if path.exists():
        template = path.read_bytes().decode("utf-8", "replace")
    else:
        template = files.read_json(config).get("chat_template") if config.exists() else None
    return chats.settled(template, False) if isinstance(template, str) and chats.has_switch(template) else None


def line(error: Exception | str) -> str:
    """Return an error's message on one line, without the state that llguidance appends."""
    return " ".join(str(error).partition("<state>")[0].split())
