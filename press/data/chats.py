"""A model's own chat template, which is a program of who made the model, and may fail in any way."""

from typing import TYPE_CHECKING, Any, cast

from press.core import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

# Of processor time, for one chat: thousands of times what a template takes that ends.
SECONDS = 10
# The day that a template which names today's is told, so that it gives the same text on every day: Llama's own choice.
DAY = {"%d": "26", "%m": "07", "%b": "Jul", "%B": "July", "%Y": "2024", "%y": "24", "%A": "Friday", "%a": "Fri"}
NOW = "strftime_now"
REPLACED = "".join(f"|replace({code!r}, {value!r})" for code, value in DAY.items())
ON_THAT_DAY = f"{{% macro {NOW}(format) %}}{{{{ format{REPLACED} }}}}{{% endmacro %}}"
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
                chat_template=_dated(template or _own(tokenizer, tools)),
                add_generation_prompt=asks,
                tokenize=False,
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


def _own(tokenizer: "PreTrainedTokenizerBase", tools: "Sequence[dict[str, Any]]") -> str | None:
    """Return the model's own template, which may have another one for chats with tools."""
    own = tokenizer.chat_template
    return tokenizer.get_chat_template(tools=list(tools) or None) if isinstance(own, dict) else own


def _dated(template: str | None) -> str | None:
    """Return a template for which it is always the same day."""
    return ON_THAT_DAY + template if template and NOW in template else template


def _literal(mark: str) -> str:
    return f"{{{{ {mark!r} }}}}"
