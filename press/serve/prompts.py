"""What the model is given for a request: a template filled in, as tokens, without any that is not its own."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import onnxruntime_genai as og

from press.core.errors import UserError
from press.data import tokens
from press.model import packaged
from press.serve import tools, wire
from press.serve.adapters import Named
from press.serve.apart import Apart, ApartError
from press.serve.conversation import Message, Tool
from press.serve.errors import RefusedError

# A question and a tool that show whether a chat template has any.
PROBED = Message(role="user", content="hi")
PROBE = Tool.model_validate({"type": "function", "function": {"name": "is_this_tool_there"}})


class Prompts:
    """The prompts of one model and its adapters.

    :param templates: applies the model's chat template
    :param control: texts of the tokenizer's control tokens by their ids
    :param start: ids of what the tokenizer begins a text with
    """

    def __init__(
        self, tokenizer: og.Tokenizer, templates: Apart, control: Mapping[int, str], start: Sequence[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._templates = templates
        self._control = control
        self._start = start

    def of(self, request: wire.ChatRequest, named: Named | None, *, thinks: bool) -> list[int]:
        """Return the tokens that a request's answer follows on.

        :param thinks: whether the bare model may think first, where its chat template has the choice
        :raises RefusedError: if the model cannot be asked that, or would read something else than what stands there
        """
        messages = request.messages
        escapes = named is not None and named.manifest.get("control_tokens") == "escape"
        for place, message in enumerate(messages):
            text = message.text()
            self._check(self._escaped(text) if escapes else text, f"messages.{place}.content")
        if named:
            said = _said(messages) if named.converses else [_question(messages, "an adapter")]
            # Its template would leave them out in silence.
            calling = [f"messages.{place}.tool_calls" for place, message in enumerate(messages) if message.is_of_tools]
            for param in ["tools"] * bool(request.tools) + calling:
                raise RefusedError(
                    "an adapter has no tools: ask the bare model", param=param, code="unsupported_parameter"
                )
            return self._encoded(named.prompt(*(self._escaped(text) if escapes else text for text in said)))
        turns, given = [message.turn() for message in messages], [tool.turn() for tool in request.offered()]
        self._check_tools(turns, given)
        try:
            text = self._templates.apply(turns, given, thinks=thinks)
        except ApartError as error:
            raise RefusedError(f"the model's chat template does not take that ({error})", param="messages") from error
        if text is None:
            # It continues a text, which begins as it does in training; the runtime's tokenizer begins it with nothing.
            return [*self._start, *self._encoded(_question(messages, "a model without a chat template"))]
        return self._encoded(text + tools.BEGUN if request.must_call() else text)

    @cached_property
    def _has_tools(self) -> bool:
        """Whether the base model's chat template has tools, in the form that is read here."""
        try:
            text = self._templates.apply([PROBED.turn()], [PROBE.turn()]) or ""
        except ApartError:
            return False
        return PROBE.function.name in text and tools.OPEN in text

    def _check_tools(self, turns: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]]) -> None:
        """Refuse tools and their calls where the model has none, and their control tokens."""
        calling = [place for place, turn in enumerate(turns) if turn["role"] == "tool" or "tool_calls" in turn]
        if (given or calling) and not self._has_tools:
            raise RefusedError(
                "the base model's chat template has no tools, or writes their calls otherwise than in <tool_call>",
                param="tools" if given else f"messages.{calling[0]}",
                code="unsupported_parameter",
            )
        self._check(json.dumps(given, ensure_ascii=False), "tools")
        for place in calling:
            calls = turns[place].get("tool_calls", [])
            self._check(json.dumps(calls, ensure_ascii=False), f"messages.{place}.tool_calls")

    def _escaped(self, text: str) -> str:
        return tokens.escaped(text, self._control.values())

    def _check(self, text: str, param: str) -> None:
        """Refuse a text that the model would read as something else than what stands there."""
        if "\0" in text:
            raise RefusedError(f"{param} has the character U+0000, which would cut it off", param=param)
        for token in self._encoded(text):
            if token in self._control:
                raise RefusedError(
                    f"{param} has {self._control[token]!r}, which the model would read as a control token", param=param
                )

    def _encoded(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text)]


def _question(messages: Sequence[Message], who: str) -> str:
    if len(messages) != 1 or messages[0].role != "user":
        raise RefusedError(
            f"{who} answers single questions: send one message, of the role user",
            param="messages",
            code="one_question",
        )
    return messages[0].text()


def _said(messages: Sequence[Message]) -> list[str]:
    """Return what is said in a conversation with an adapter, whose template has the system's turn already."""
    if any(message.role != ("user", "assistant")[place % 2] for place, message in enumerate(messages)):
        raise RefusedError(
            "an adapter answers conversations as it was trained on them: send messages of the roles user and assistant "
            "in turns, and none of the system",
            param="messages",
            code="turns",
        )
    if len(messages) % 2 == 0:
        raise RefusedError(
            "the last message is the assistant's, which there is nothing to answer of: send the user's next one",
            param="messages",
            code="turns",
        )
    return [message.text() for message in messages]


def special_tokens(path: Path) -> tuple[dict[int, str], list[int]]:
    """Return the ids and texts of a tokenizer's control tokens, and the ids of what it begins a text with."""
    try:
        tokenizer = packaged.read_object(path)
        control = {token["id"]: token["content"] for token in tokenizer["added_tokens"] if token["special"]}
        processor = tokenizer.get("post_processor") or {}
        for each in processor.get("processors", [processor]):
            if each.get("type") == "TemplateProcessing" and "SpecialToken" in each["single"][0]:
                return control, each["special_tokens"][each["single"][0]["SpecialToken"]["id"]]["ids"]
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise UserError(f"{packaged.shown(path)} is damaged: {packaged.AGAIN}") from error
    return control, []
