"""A model's own chat template, which is a program of who made the model, and may fail in any way."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from press.core import limits
from press.core.apart import Apart, ApartError
from press.core.errors import UserError
from press.data import tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of processor time, for one chat: thousands of times what a template takes that ends. And all in all, for the chats
# that are asked about at once, where one operation of compiled code, which nothing interrupts, does not end.
SECONDS, ALL_SECONDS = 10, 60
# The day that a template which names today's is told, so that it gives the same text on every day: Llama's own choice.
DAY = {"%d": "26", "%m": "07", "%b": "Jul", "%B": "July", "%Y": "2024", "%y": "24", "%A": "Friday", "%a": "Fri"}
NOW = "strftime_now"
REPLACED = "".join(f"|replace({code!r}, {value!r})" for code, value in DAY.items())
ON_THAT_DAY = f"{{% macro {NOW}(format) %}}{{{{ format{REPLACED} }}}}{{% endmacro %}}"
# What chat templates of models that think ask for, and what settles it for all who apply the template, to which the
# runtime hands no variables.
SWITCH = "enable_thinking"
NO_SWITCH = f"the base model's chat template has no choice of it ({SWITCH})"
# What stands around thoughts.
THINK, THOUGHT = "<think>", "</think>"
SETTLED = {on: f"{{% set {SWITCH} = {str(on).lower()} %}}" for on in (True, False)}
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


class Asked(NamedTuple):
    """A chat that is to become a text.

    :param tools: what the assistant may call
    :param asks: whether the text ends where the assistant's answer begins
    """

    messages: Sequence[dict[str, Any]]
    tools: Sequence[dict[str, Any]] = ()
    asks: bool = False


def text(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]] = (),
    template: str | None = None,
    *,
    asks: bool = False,
) -> str:
    """Return the text that a model is given for a chat.

    :raises ValueError: if the chat template fails or does not end, with its reason
    """
    (rendered,) = texts(tokenizer, [Asked(messages, tools, asks)], template)
    if isinstance(rendered, ValueError):
        raise rendered
    return rendered


def texts(
    tokenizer: "PreTrainedTokenizerBase", asked: Sequence[Asked], template: str | None = None
) -> list[str | ValueError]:
    """Return the text that a model is given for each chat, or what its template says against it.

    :param template: in place of the model's own chat template
    :raises UserError: if the template crashes, or one operation of it takes too long
    """
    return begin(tokenizer, asked, template)()


def begin(
    tokenizer: "PreTrainedTokenizerBase", asked: Sequence[Asked], template: str | None = None
) -> Callable[[], list[str | ValueError]]:
    """Let chats be rendered meanwhile, and return what waits for them and returns them, as `texts` does."""
    whose = "plain" if template else "base model's chat"
    given = [(_dated(template or tokenizer.get_chat_template(tools=list(each.tools) or None)), each) for each in asked]
    rendered = RENDER.begin(given, dict(tokenizer.special_tokens_map))

    def wait() -> list[str | ValueError]:
        try:
            answered = rendered()
        except ApartError as error:
            raise UserError(f"the {whose} template cannot be applied ({error}): choose another base model") from error
        outcomes: list[str | ValueError] = []
        for made, reason in answered:
            wrong = reason or tokens.unreadable(made)
            outcomes.append(ValueError(f"a chat that the {whose} template does not take: {wrong}") if wrong else made)
        return outcomes

    return wait


def renderer() -> Callable[..., list[tuple[str, str]]]:
    """Return what renders chats, in a process that may not end."""
    # It takes half a second.
    from transformers.utils.chat_template_utils import render_jinja_template

    def rendered(template: str, asked: Sequence[Asked], marks: dict) -> list[str]:
        """Return the texts of chats with the same tools, all of which end where an answer does, or begins."""
        try:
            with limits.processor_time(SECONDS):
                (texts, _) = render_jinja_template(
                    conversations=[list(each.messages) for each in asked],
                    tools=list(asked[0].tools) or None,
                    chat_template=template,
                    add_generation_prompt=asked[0].asks,
                    **marks,
                )
        except Exception as error:
            # Jinja lets through what Python raises, such as RecursionError and ZeroDivisionError.
            raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
        return list(texts)

    def one_by_one(template: str, asked: Sequence[Asked], marks: dict) -> list[tuple[str, str]]:
        outcomes = []
        for each in asked:
            try:
                outcomes.append((rendered(template, [each], marks)[0], ""))
            except ValueError as error:
                outcomes.append(("", str(error)))
        return outcomes

    def render(asked: Sequence[tuple[str, Asked]], marks: dict[str, Any]) -> list[tuple[str, str]]:
        """Return the text of each chat, and why there is none."""
        outcomes = [("", "")] * len(asked)
        for (template, *_), places in _alike(asked).items():
            batch = [asked[each][1] for each in places]
            try:
                texts = [(text, "") for text in rendered(template, batch, marks)]
            except ValueError:
                texts = one_by_one(template, batch, marks)
            for each, text in zip(places, texts, strict=True):
                outcomes[each] = text
        return outcomes

    return render


def _alike(asked: Sequence[tuple[str, Asked]]) -> dict[tuple[str, bool, str], list[int]]:
    """Return the places of chats that can be rendered in one call, which costs half of what calls of their own do."""
    groups: dict[tuple[str, bool, str], list[int]] = {}
    for place, (template, each) in enumerate(asked):
        tools = json.dumps(each.tools) if each.tools else ""
        groups.setdefault((template, each.asks, tools), []).append(place)
    return groups


RENDER = Apart(renderer, seconds=ALL_SECONDS)


def settled(template: Any, on: bool | None) -> Any:
    """Return a chat template, or several by their names, with thinking on or off, whatever it was settled to before.

    A template that has no switch stays as it is.

    :param on: None for as it is
    """
    if isinstance(template, dict):
        return {name: settled(each, on) for name, each in template.items()}
    if on is None or not has_switch(template):
        return template
    for each in SETTLED.values():
        template = template.removeprefix(each)
    return SETTLED[on] + template


def has_switch(template: Any) -> bool:
    """Tell whether a chat template, or one of several, asks whether to think."""
    if isinstance(template, dict):
        return any(map(has_switch, template.values()))
    return template is not None and SWITCH in template


def plain(tokenizer: "PreTrainedTokenizerBase", end: str) -> str | None:
    """Return a chat template of questions and answers for a base model that has none; None where it has its own.

    :param end: the control token that ends an answer
    """
    if tokenizer.chat_template:
        return None
    start = str(tokenizer.bos_token) if tokens.start(tokenizer) else ""
    return PLAIN % {"start": _literal(start), "end": _literal(end)}


def _dated(template: str) -> str:
    """Return a template for which it is always the same day."""
    return ON_THAT_DAY + template if NOW in template else template


def _literal(mark: str) -> str:
    return f"{{{{ {mark!r} }}}}"
