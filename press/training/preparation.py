"""Turn an adapter's data set into examples: validated, tokenized, and split into a training and a held-out set."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from press.core import files, paths
from press.core.errors import UserError
from press.data import answers, jsonl, templates
from press.data.examples import Example
from press.params import schema

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN_ERRORS = 10
MERGED = (
    "the template's text before {response} merges with the answer into one token, so that the model would be given "
    "another prompt than it was trained on: end that text with a line break or a special token, not with a space"
)


@dataclass
class Reject:
    """A line that is left out, or that stops the stage."""

    line: int
    reason: str


@dataclass
class Prepared:
    """A data set after validation: examples by split, and what was left out."""

    train: list[Example] = field(default_factory=list)
    heldout: list[Example] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    duplicates: int = 0
    truncated: int = 0


def prepare(adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase", eos_ids: list[int]) -> Prepared:
    """Turn an adapter's JSON Lines file into tokenized examples.

    A line is held out by the hash of its own content, so that adding a line moves no other line.

    :raises UserError: naming the file and the lines that are wrong, or if a split would be empty
    """
    path = Path(adapter.data)
    records, errors = _read(path, adapter)
    result = Prepared()
    for line, values in records.items():
        before, completion = templates.render(adapter.template, values)
        example = tokenize(tokenizer, before, completion)
        if example["input_ids"][-1] not in eos_ids:
            raise UserError(_endless(adapter.template, tokenizer, eos_ids))
        if encode(tokenizer, before) != example["input_ids"][: example["prompt_tokens"]]:
            errors.append(Reject(line, MERGED))
            continue
        excess = len(example["input_ids"]) - adapter.max_seq_len
        if excess > 0:
            reason = f"{len(example['input_ids'])} tokens, more than max_seq_len {adapter.max_seq_len}"
            if adapter.too_long == "skip":
                result.rejects.append(Reject(line, reason))
                continue
            if adapter.too_long == "error" or example["prompt_tokens"] >= adapter.max_seq_len:
                errors.append(Reject(line, reason))
                continue
            example["input_ids"] = example["input_ids"][: adapter.max_seq_len]
            result.truncated += 1
        split = result.heldout if _is_held_out(values, adapter.heldout) else result.train
        split.append(example)
    _raise(path, errors)
    result.duplicates = len(_lines(path)) - len(records)
    if not result.train or not result.heldout:
        raise UserError(
            f"{path} leaves {len(result.train)} examples to train on and {len(result.heldout)} held out; "
            "both must be at least 1: add lines or change heldout"
        )
    return result


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Return the token ids of a text as it stands, without tokens that a tokenizer would add."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def tokenize(tokenizer: "PreTrainedTokenizerBase", prompt: str, completion: str) -> Example:
    """Tokenize prompt and completion as one text and mark where the prompt's tokens end."""
    encoded = tokenizer(prompt + completion, add_special_tokens=False, return_offsets_mapping=True)
    prompt_tokens = sum(end <= len(prompt) for _, end in encoded["offset_mapping"])
    return Example(prompt=prompt, completion=completion, input_ids=encoded["input_ids"], prompt_tokens=prompt_tokens)


def render_samples(adapter: schema.Adapter) -> list[str]:
    """Return the sample prompts as the model is given them."""
    if not adapter.samples:
        return []
    given = [name for name in templates.fields(adapter.template) if name != templates.RESPONSE]
    if len(set(given)) != 1:
        raise UserError(f"samples need a template with one field besides {{response}}, not {', '.join(given)}")
    return [templates.render(adapter.template, {given[0]: text, templates.RESPONSE: ""})[0] for text in adapter.samples]


def check_context(name: str, max_seq_len: int) -> None:
    """Refuse examples that may be longer than the base model's context."""
    context = files.read_json(paths.BASE / paths.CONFIG).get("max_position_embeddings", max_seq_len)
    if max_seq_len > context:
        raise UserError(
            f"adapters.{name}.max_seq_len is {max_seq_len}, but the base model's context is {context} tokens"
        )


def _read(path: Path, adapter: schema.Adapter) -> tuple[dict[int, dict[str, str]], list[Reject]]:
    """Return the distinct records by line number, and the lines that are wrong."""
    names = templates.fields(adapter.template)
    records, errors, seen = {}, [], {}
    for line, text in _lines(path):
        try:
            values = _parse(text, names, adapter.response_schema)
        except ValueError as error:
            errors.append(Reject(line, str(error)))
            continue
        prompt = tuple(values[name] for name in names if name != templates.RESPONSE)
        first, answer = seen.setdefault(prompt, (line, values[templates.RESPONSE]))
        if answer != values[templates.RESPONSE]:
            errors.append(Reject(line, f"the same prompt as line {first} with another answer"))
        elif first == line:
            records[line] = values
    if not records and not errors:
        raise UserError(f"{path} is empty: it needs JSON objects with {', '.join(names)}, one a line")
    return records, errors


def _lines(path: Path) -> list[tuple[int, bytes]]:
    try:
        return list(jsonl.lines(path))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"{path} is not a file: mend the adapter's data in params.yaml") from error


def _parse(text: bytes, names: list[str], response_schema: dict | None) -> dict[str, str]:
    """Return the template's fields of one line, or raise ValueError with what is wrong."""
    value = jsonl.parse(text)
    for name in names:
        if name not in value:
            raise ValueError(f"no field {name!r}, which the template names; it has {', '.join(value) or 'none'}")
        if not isinstance(value[name], str) or not value[name].strip():
            raise ValueError(f"field {name!r} is {json.dumps(value[name])}, not a non-empty string")
        if any("\ud800" <= character <= "\udfff" for character in value[name]):
            raise ValueError(f"field {name!r} has half of a surrogate pair, which is no character")
    if response_schema is not None:
        wrong = answers.complaint(value[templates.RESPONSE], response_schema)
        if wrong:
            raise ValueError(f"the response is {wrong}" if wrong.startswith("not") else f"the response {wrong}")
    return {name: value[name] for name in names}


def _is_held_out(values: dict[str, str], share: float) -> bool:
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def _raise(path: Path, errors: list[Reject]) -> None:
    if errors:
        shown = [f"{path} line {error.line}: {error.reason}" for error in sorted(errors, key=lambda e: e.line)]
        more = [f"and {len(shown) - SHOWN_ERRORS} more lines"] if len(shown) > SHOWN_ERRORS else []
        raise UserError("\n".join(shown[:SHOWN_ERRORS] + more))


def _endless(template: str, tokenizer: "PreTrainedTokenizerBase", eos_ids: list[int]) -> str:
    marks = " or ".join(repr(mark) for mark in tokenizer.convert_ids_to_tokens(eos_ids)) or "(none)"
    return (
        f"the template ends with {template[-12:]!r}, so that an answer would never end: it must end with the "
        f"base model's end-of-turn token, {marks}"
    )
