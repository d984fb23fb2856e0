"""One line's fields in the adapter's template, as tokens; or what is wrong with the line, or with the template."""

from typing import TYPE_CHECKING

from press.core.errors import UserError
from press.data import chats, templates, tokens
from press.data.examples import Example
from press.params import schema

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MERGED = (
    "the template's text before {response} merges with the answer into one token, so that the model would be given "
    "another prompt than it was trained on: end that text with a line break or a special token, not with a space"
)
COMPOSED = "the template's text and the fields beside it make a control token together: part them, as by a line break"


class Renderer:
    """What makes an example of a line's fields, or says what is wrong with the line by a ValueError."""

    def __init__(self, adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase", eos_ids: list[int]) -> None:
        self._adapter = adapter
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._start = _start(tokenizer)
        self._control = tokens.control(tokenizer)
        literals = [tokens.encode(tokenizer, text) for text in templates.literals(adapter.template)]
        self._control_tokens = sum(self._count_control(ids) for ids in literals)

    def example(self, values: dict[str, str]) -> Example:
        """Tokenize a line.

        :raises UserError: if the template fits no line
        """
        before, completion = templates.render(self._adapter.template, values)
        example = tokens.example(self._tokenizer, before, completion)
        ids = example["input_ids"]
        if ids[-1] not in self._eos_ids:
            raise UserError(_endless(self._adapter.template, self._tokenizer, self._eos_ids))
        if ids[: len(self._start)] != self._start:
            raise UserError(_startless(self._adapter.template, self._tokenizer))
        if self._count_control(ids) != self._control_tokens:
            raise ValueError(COMPOSED)
        if tokens.encode(self._tokenizer, before) != ids[: example["prompt_tokens"]]:
            raise ValueError(MERGED)
        return example

    def excess(self, example: Example) -> str | None:
        """Return in words by how much an example is too long, or None."""
        length, limit = len(example["input_ids"]), self._adapter.max_seq_len
        return f"{length} tokens, more than max_seq_len {limit}" if length > limit else None

    def truncate(self, example: Example, excess: str) -> None:
        """Cut an example's answer, and end it as the whole one ends."""
        limit = self._adapter.max_seq_len
        # A token of the answer has to be left, and the one that ends it.
        if example["prompt_tokens"] > limit - 2:
            raise ValueError(excess)
        if self._adapter.response_schema is not None:
            raise ValueError(f"{excess}, and an answer that is cut satisfies no response_schema: choose too_long skip")
        ids = example["input_ids"]
        example["input_ids"] = ids[: limit - 1] + ids[-1:]

    def _count_control(self, ids: list[int]) -> int:
        return sum(token in self._control for token in ids)


def _start(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the tokens with which every text begins that the base model knows.

    Some tokenizers put a token before plain text that no chat begins with: where there is a chat template that takes a
    question, it decides.
    """
    start = tokens.start(tokenizer)
    if not start or not tokenizer.chat_template:
        return start
    try:
        chat = chats.text(tokenizer, [{"role": "user", "content": "a"}])
    except ValueError:
        return start
    return start if tokens.encode(tokenizer, chat)[: len(start)] == start else []


def _startless(template: str, tokenizer: "PreTrainedTokenizerBase") -> str:
    return (
        f"the template begins with {template[:12]!r}, but the base model knows no text that does not begin with "
        f"{tokenizer.bos_token!r}: begin the template with it"
    )


def _endless(template: str, tokenizer: "PreTrainedTokenizerBase", eos_ids: list[int]) -> str:
    marks = " or ".join(repr(mark) for mark in tokenizer.convert_ids_to_tokens(eos_ids)) or "(none)"
    return (
        f"the template ends with {template[-12:]!r}, so that an answer would never end: it must end with the "
        f"base model's end-of-turn token, {marks}"
    )
