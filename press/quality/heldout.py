"""What models are scored on: the held-out examples of each adapter, and a general text."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from press.core import files, paths
from press.core.errors import UserError
from press.data import examples, jsonl, rows, templates
from press.data.examples import Example
from press.model import checkpoints, device_tokenizer
from press.params.settings import Settings
from press.quality.ladder import GENERAL


def read(params: Settings) -> dict[str, list[Example]]:
    """Return each adapter's held-out examples, short ones first so that batches have little padding, and the text."""
    texts = {name: sorted(_examples(name), key=lambda each: len(each["input_ids"])) for name in params.adapters}
    general = params.evaluate.general
    check_context(general.row_tokens)
    tokenizer = checkpoints.tokenizer(paths.BASE, params.base.trust_remote_code)
    block = f"evaluate.{GENERAL}"
    texts[GENERAL] = rows.examples(Path(general.data), tokenizer, general.rows, general.row_tokens, block)
    return texts


def chosen(examples: Sequence[Example], count: int) -> list[int]:
    """Return the indices of so many examples, chosen by the content of their prompts."""
    digests = [hashlib.sha256(example["prompt"].encode()).digest() for example in examples]
    return sorted(sorted(range(len(examples)), key=digests.__getitem__)[:count])


def check_context(row_tokens: int) -> None:
    """Refuse rows of text that are longer than the base model's context."""
    context = files.read_json(paths.BASE / paths.CONFIG).get("max_position_embeddings", row_tokens)
    if row_tokens > context:
        raise UserError(
            f"evaluate.general.row_tokens is {row_tokens}, but the base model's context is {context} tokens"
        )


def check_tokens(model: Path, texts: Mapping[str, list[Example]], trust: bool) -> None:
    """Refuse a captured model whose tokenizer reads a prompt or an answer otherwise than the one of the training.

    :param trust: whether the base model's own Python code may run
    """
    device, tokenizer = device_tokenizer.of_model(model), checkpoints.tokenizer(paths.BASE, trust)
    for name in adapters(texts):
        device_tokenizer.check(device, tokenizer, [*about(name)["samples"], *examples.texts(texts[name])])


def adapters(texts: Mapping[str, list[Example]]) -> list[str]:
    """Return the names of the adapters whose held-out examples are among texts."""
    return [text for text in texts if text != GENERAL]


def about(name: str) -> dict:
    """Return what `prepare` says of an adapter: its template, samples and response schema."""
    return files.read_json(paths.PREPARED / name / paths.ADAPTER_MANIFEST)


def inputs(texts: Mapping[str, list[Example]]) -> dict[str, list[str]]:
    """Return what each text's examples are called: by what their prompts' fields hold, rows of text by their words."""
    labels = {GENERAL: [example["completion"] for example in texts[GENERAL]]}
    for name in adapters(texts):
        template = about(name)["template"]
        # Plain text has no prompt.
        labels[name] = [templates.given(template, each["prompt"]) or each["completion"] for each in texts[name]]
    return labels


def _examples(name: str) -> list[Example]:
    return cast(list[Example], jsonl.read(paths.PREPARED / name / paths.HELDOUT))
