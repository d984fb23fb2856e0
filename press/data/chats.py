"""A model's own chat template, which is a program of who made the model, and may fail in any way."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from press.core import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

# Of processor time, for one chat: thousands of times what a template takes that ends.
SECONDS = 10
# The day that a template which names today's is told, so that it gives the same text on every day: Llama's own choice.
DAY = datetime(2024, 7, 26)
# For a base model without a chat template. An answer begins on a line of its own, so that no token joins it.
PLAIN = (
    "{%% if tools %%}{{ raise_exception('the plain template of a base model has no place for tools') }}{%% endif %%}"
    "%(start)s{%% for message in messages %%}"
    "{%% if message.role == 'user' %%}Question: {{ message.content }}\n"
    "{%% elif message.role == 'assistant' %%}Answer:\n{{ message.content }}%(end)s\n"
    "{%% elif message.role == 'system' %%}{{ message.content }}\n"
    "{%% else %%}{{ raise_exception('the plain template of a base model has no role ' + message.role) }}{%% endif %%}"
    "{%% endfor %%}{%% if add_generation_prompt %%}Answer:\n{%% endif %%}"
)


def text(
    tokenizer: "PreTrainedTokenizerBase",
    messages: "Sequence[dict[str, Any]]",
    tools: "Sequence[dict[str, Any]]" = (),
    template: str | None = None,
    *,
    asks: bool = False,
) -> str:
    """Return the text that a model is given for a chat.

    :param tools: what the assistant may call
    :param template: in place of the model's own chat template
    :param asks: whether the text ends where the assistant's answer begins
    :raises ValueError: if the chat template fails or does not end, with its reason
    """
    try:
        with limits.processor_time(SECONDS):
            rendered = tokenizer.apply_chat_template(
                list(messages),
                tools=list(tools) or None,
                chat_template=template,
                add_generation_prompt=asks,
                tokenize=False,
                strftime_now=DAY.strftime,
            )
    except Exception as error:
        # Jinja lets through what Python raises, such as RecursionError and ZeroDivisionError.
        reason = " ".join(str(error).split()) or type(error).__name__
        whose = "plain" if template else "base model's chat"
        raise ValueError(f"a chat that the {whose} template does not take: {reason}") from error
    return cast(str, rendered)


def plain(start: str, end: str) -> str:
    """Return a chat template of questions and answers.

    :param start: the control token that begins every text, if there is one
    :param end: the control token that ends an answer
    """
    return PLAIN % {"start": _literal(start), "end": _literal(end)}


def _literal(mark: str) -> str:
    return f"{{{{ {mark!r} }}}}"
