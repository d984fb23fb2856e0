"""Turn an adapter's data set into examples: validated, tokenized, and split into a training and a held-out set."""

import hashlib
import json
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from press.core import files, paths
from press.core.errors import UserError
from press.data import answers, guidance, jsonl, templates, tokens
from press.data.examples import Example
from press.params import schema
from press.training.rendering import Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Mistakes that are told at once, and lines of each.
SHOWN_ERRORS = 10
SHOWN_LINES = 5


@dataclass
class Reject:
    """A line that is left out, or that stops the stage."""

    line: int
    reason: str


@dataclass
class Prepared:
    """A data set after validation: examples by split, and what was left out or changed.

    :param duplicates: lines that say what an earlier one says
    :param near_duplicates: lines whose prompt differs from an earlier one's in case, Unicode form or spaces alone, and
        that are in the same split as that one
    :param truncated: examples whose answer was cut to max_seq_len
    """

    train: list[Example] = field(default_factory=list)
    heldout: list[Example] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    duplicates: int = 0
    near_duplicates: int = 0
    truncated: int = 0


def prepare(adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase", eos_ids: list[int]) -> Prepared:
    """Turn an adapter's JSON Lines file into tokenized examples.

    A line is held out by the hash of its own content, so that adding a line moves no other line. Where prompts are
    nearly the same, the first one decides for all: none is trained on that another is held out for.

    :raises UserError: naming the file and the lines that are wrong, or if a split would be empty
    """
    path = Path(adapter.data)
    _check_samples(adapter, tokenizer)
    records, errors = _read(path, adapter, tokenizer)
    result = Prepared()
    renderer = Renderer(adapter, tokenizer, eos_ids)
    sides: dict[tuple[str, ...], bool] = {}
    for line, values in records.items():
        try:
            example = renderer.example(values)
            if excess := renderer.excess(example):
                if adapter.too_long == "skip":
                    result.rejects.append(Reject(line, excess))
                    continue
                if adapter.too_long == "error":
                    raise ValueError(excess)
                renderer.truncate(example, excess)
                result.truncated += 1
        except ValueError as error:
            errors.append(Reject(line, str(error)))
            continue
        prompt = tuple(_nearly(values[name]) for name in sorted(values) if name != templates.RESPONSE)
        result.near_duplicates += prompt in sides
        held_out = sides.setdefault(prompt, _is_held_out(values, adapter.heldout))
        (result.heldout if held_out else result.train).append(example)
    _raise(path, errors)
    result.duplicates = len(_lines(path)) - len(records)
    if not result.train or not result.heldout:
        raise UserError(
            f"{path} leaves {len(result.train)} examples to train on and {len(result.heldout)} held out; "
            "both must be at least 1: add lines or change heldout"
        )
    return result


def render_samples(adapter: schema.Adapter) -> list[str]:
    """Return the sample prompts as the model is given them."""
    if not adapter.samples:
        return []
    given = [name for name in templates.fields(adapter.template) if name != templates.RESPONSE]
    if len(set(given)) != 1:
        raise UserError(f"samples need a template with one field besides {{response}}, not {', '.join(given)}")
    return [templates.render(adapter.template, {given[0]: text, templates.RESPONSE: ""})[0] for text in adapter.samples]


def decodable_schema(adapter: schema.Adapter, prepared: Prepared) -> dict | None:
    """Return an adapter's response schema, if it has any, written as the answers that it is trained on are written."""
    if adapter.response_schema is None:
        return None
    given = [templates.answer(adapter.template, example["completion"]) for example in prepared.train]
    return guidance.adapted(adapter.response_schema, given)


def check_context(name: str, max_seq_len: int) -> None:
    """Refuse examples that may be longer than the base model's context."""
    context = files.read_json(paths.BASE / paths.CONFIG).get("max_position_embeddings", max_seq_len)
    if max_seq_len > context:
        raise UserError(
            f"adapters.{name}.max_seq_len is {max_seq_len}, but the base model's context is {context} tokens"
        )


def _check_samples(adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase") -> None:
    for sample in adapter.samples:
        if wrong := tokens.complaint(sample, tokenizer):
            raise UserError(f"the sample {json.dumps(sample)} {wrong}")


def _read(
    path: Path, adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase"
) -> tuple[dict[int, dict[str, str]], list[Reject]]:
    """Return the distinct records by line number, and the lines that are wrong."""
    names = templates.fields(adapter.template)
    records, errors, seen = {}, [], {}
    for line, text in _lines(path):
        try:
            values = _parse(text, names, adapter.response_schema)
            _check_fields(values, tokenizer)
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
    if response_schema is not None:
        wrong = answers.complaint(value[templates.RESPONSE], response_schema)
        if wrong:
            raise ValueError(f"the response {wrong}" if wrong.startswith("breaks") else f"the response is {wrong}")
    return {name: value[name] for name in names}


def _check_fields(values: dict[str, str], tokenizer: "PreTrainedTokenizerBase") -> None:
    for name, text in values.items():
        if wrong := tokens.complaint(text, tokenizer):
            raise ValueError(f"field {name!r} {wrong}")


def _nearly(text: str) -> str:
    """Return what a text has in common with those that differ in case, Unicode form or spaces alone."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def _is_held_out(values: dict[str, str], share: float) -> bool:
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def _raise(path: Path, errors: list[Reject]) -> None:
    if errors:
        lines: dict[str, list[int]] = {}
        for error in sorted(errors, key=lambda error: error.line):
            lines.setdefault(error.reason, []).append(error.line)
        shown = [f"{path} {_numbered(of)}: {reason}" for reason, of in lines.items()]
        more = [f"and {len(shown) - SHOWN_ERRORS} other mistakes"] if len(shown) > SHOWN_ERRORS else []
        raise UserError("\n".join(shown[:SHOWN_ERRORS] + more))


def _numbered(lines: list[int]) -> str:
    """Return lines in words, the first ones by their numbers."""
    some = ", ".join(map(str, lines[:SHOWN_LINES]))
    more = f" and {len(lines) - SHOWN_LINES} more" if len(lines) > SHOWN_LINES else ""
    return f"{'line' if len(lines) == 1 else 'lines'} {some}{more}"
