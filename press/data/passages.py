"""Passages from a JSON Lines file of text or chats: what is calibrated on, and the general text of the evaluation."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from press.core.errors import UserError
from press.data import chats, formats, jsonl, strict_json, tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEEDED = 'it needs a "text", or the "messages" of a chat'


def read(path: Path, tokenizer: "PreTrainedTokenizerBase", block: str) -> list[str]:
    """Return the text of each line, with what separates it from the next.

    A line is an object with a "text", or with the "messages" of a chat, which the model's own chat template turns into
    text, or, where it has none, the plain one of questions and answers.

    :param block: the parameters' block that names the file
    :raises UserError: with the line that has neither, or whose text the tokenizer would not read as it stands
    """
    try:
        lines = list(jsonl.lines(path))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"{path} is not a file: {block}.data names the text") from error
    texts = []
    for number, line in lines:
        try:
            texts.append(_passage(jsonl.parse(line), tokenizer))
        except ValueError as error:
            raise UserError(f"{path} line {number}: {error}") from error
    return texts


def _passage(line: dict, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a line's text, or raise ValueError with what is wrong."""
    if "messages" in line:
        return _chat(line["messages"], tokenizer)
    text = line.get("text")
    if not isinstance(text, str):
        raise ValueError(f"no text: {NEEDED}")
    if wrong := tokens.complaint(text, tokenizer):
        raise ValueError(f"the text {wrong}")
    return text + "\n\n"


def _chat(messages: object, tokenizer: "PreTrainedTokenizerBase") -> str:
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages that are no list of messages: each needs a role and a content")
    spoken = [_message(number, message, tokenizer) for number, message in enumerate(messages, start=1)]
    return chats.text(tokenizer, spoken, template=chats.plain(tokenizer, str(tokenizer.eos_token or "")))


def _message(number: int, message: object, tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """Return a message with its content as one text."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str) or not message["role"]:
        raise ValueError(f"message {number} has no role, such as user or assistant")
    spoken = {**message, "content": formats.content(number, message.get("content"))}
    for text in strict_json.texts(spoken):
        if wrong := tokens.complaint(text, tokenizer):
            raise ValueError(f"message {number} {wrong}")
    return spoken
