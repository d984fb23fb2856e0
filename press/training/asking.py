"""How an adapter is asked later on: its samples and its response schema, and what the base model leaves room for."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from press.core import files, paths
from press.core.errors import UserError
from press.data import chats, guidance, jsonl, templates, tokens
from press.params import schema

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def as_model_reads(value: Any, adapter: schema.Adapter, reader: tokens.Reader) -> Any:
    """Return what a person wrote as the model reads it."""
    return reader.escaped(value) if adapter.control_tokens == "escape" else value


def as_read(adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase") -> schema.Adapter:
    """Return an adapter with its samples as the model reads them."""
    reader = tokens.Reader(tokenizer)
    samples = [as_model_reads(sample, adapter, reader) for sample in adapter.samples]
    return adapter.model_copy(update={"samples": samples})


def settle_thinking(name: str, adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Let the tokenizer's chat template think before an answer, or not, as the adapter is to do.

    An answer that is held to a response schema has no room for thoughts.

    :raises UserError: if the adapter says so, and its template has no such choice
    """
    if adapter.thinking is not None:
        key = f"adapters.{name}.thinking is {str(adapter.thinking).lower()}"
        if adapter.template != templates.CHAT:
            raise UserError(f"{key}, but its template says itself what stands before an answer: leave it null")
        if not chats.has_switch(tokenizer.chat_template):
            raise UserError(f"{key}, but {chats.NO_SWITCH}: leave it null")
    on = False if adapter.response_schema is not None else adapter.thinking
    tokenizer.chat_template = chats.settled(tokenizer.chat_template, on)


def render_samples(adapter: schema.Adapter, template: str) -> list[str]:
    """Return the sample prompts as the model is given them.

    :param template: by which the adapter is asked one question
    """
    if not adapter.samples:
        return []
    given = [name for name in templates.fields(template) if name != templates.RESPONSE]
    if len(set(given)) != 1:
        raise UserError(f"samples need a template with one field besides {{response}}, not {', '.join(given)}")
    return [templates.render(template, {given[0]: text, templates.RESPONSE: ""})[0] for text in adapter.samples]


def decodable_schema(adapter: schema.Adapter, template: str, train: Path) -> dict | None:
    """Return an adapter's response schema, if it has any, written as the answers that it is trained on are written.

    :param template: by which the adapter is asked one question
    :param train: its training examples
    """
    if adapter.response_schema is None:
        return None
    rows = jsonl.Rows(train)
    examples = [rows[index] for index in range(min(len(rows), guidance.LOOKED_AT))]
    return guidance.adapted(
        adapter.response_schema, [templates.answer(template, each["completion"]) for each in examples]
    )


def check_context(name: str, max_seq_len: int) -> None:
    """Refuse examples that may be longer than the base model's context."""
    context = files.read_json(paths.BASE / paths.CONFIG).get("max_position_embeddings", max_seq_len)
    if max_seq_len > context:
        raise UserError(
            f"adapters.{name}.max_seq_len is {max_seq_len}, but the base model's context is {context} tokens"
        )


def check_samples(name: str, adapter: schema.Adapter, lengths: Iterable[int]) -> None:
    """Refuse sample prompts that leave no room for an answer in the base model's context.

    :param lengths: the tokens of each, template included
    """
    for sample, length in zip(adapter.samples, lengths, strict=True):
        context = files.read_json(paths.BASE / paths.CONFIG).get("max_position_embeddings", length + 1)
        if length >= context:
            raise UserError(
                f"adapters.{name}.samples: {json.dumps(sample[:80])} has {length} tokens with the template, but the "
                f"base model's context is {context} tokens"
            )


def check_top_k(name: str, top_k: int) -> None:
    """Refuse to let answers be sampled from more tokens than the base model has, which the runtime does not do."""
    vocabulary = files.read_json(paths.BASE / paths.CONFIG).get("vocab_size", top_k)
    if top_k > vocabulary:
        raise UserError(
            f"adapters.{name}.generation.top_k is {top_k}, but the base model has only {vocabulary} tokens (0: all)"
        )
