"""Run a captured model with onnxruntime-genai, bare or with one of its adapters."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og

from press.core import paths
from press.model import decoding, device_tokenizer, packaged

CONTEXT_MARGIN = 1
# How answers are given that no adapter's settings are about.
PLAIN = packaged.generation({})


@dataclass(frozen=True)
class Loaded:
    """A model in memory.

    :param context: tokens that a prompt and its answer may have
    :param window: tokens that a graph of static shapes takes at a time, a shorter prompt padded; None for other graphs
    :param padded: whether a row's padding changes nothing
    """

    model: og.Model
    context: int
    window: int | None
    padded: bool

    def room(self, tokens: int) -> int:
        """Return the length that a cache must have for a prompt."""
        padded = tokens + -tokens % self.window if self.window else tokens
        return padded + CONTEXT_MARGIN


class Runtime:
    """A captured model with its adapters, on a fixed number of threads.

    An adapter is a file for the model's inputs, NAME/adapter.onnx_adapter, or a whole model beside that path, which
    has it in its weights and is loaded when it is first asked for. The manifest beside that path, if there is one, says
    which response schema its answers are held to.
    """

    def __init__(self, model: Path, adapters: dict[str, Path], threads: int, batch: int = 1) -> None:
        """Load a model.

        :param batch: how many prompts `answers` answers together
        """
        self._threads = threads
        self._batch = batch
        self._bare = self._load(model)
        self._tokenizer = og.Tokenizer(self._bare.model)
        self._adapters = og.Adapters(self._bare.model)
        self._merged = {
            name: path.parent for name, path in adapters.items() if (path.parent / paths.RUNTIME_CONFIG).exists()
        }
        manifests = {name: path.parent / paths.ADAPTER_MANIFEST for name, path in adapters.items()}
        self._schemas: dict[str | None, dict | None] = {
            name: packaged.read_adapter(path)["response_schema"] for name, path in manifests.items() if path.exists()
        }
        self._loaded: dict[str, Loaded] = {}
        for name, path in adapters.items():
            if name not in self._merged:
                self._adapters.load(str(path), name)

    @property
    def context(self) -> int:
        """How many tokens a prompt and its answer may have."""
        return self._bare.context

    @property
    def start(self) -> int:
        """The token that stands before a text."""
        return self._tokenizer.bos_token_id

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        return device_tokenizer.encode(self._tokenizer, text)

    def logits(self, ids: list[int], adapter: str | None) -> np.ndarray:
        """Return the logits of a whole sequence, fp32 of shape (tokens, vocabulary)."""
        loaded = self._with(adapter)
        window = loaded.window or len(ids)
        generator = self._generator(loaded, loaded.room(len(ids)), adapter)
        parts = []
        for start in range(0, len(ids), window):
            chunk = ids[start : start + window]
            generator.append_tokens(chunk)
            parts.append(generator.get_output("logits")[0][: len(chunk)].astype(np.float32, copy=False))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def answer(
        self,
        prompt: str,
        adapter: str | None,
        given: Mapping[str, Any] = PLAIN,
        free: bool = False,
        before: Sequence[int] = (),
    ) -> tuple[str, bool]:
        """Return the greedy answer, which ends at the model's context at the latest, and whether it ended by itself.

        :param given: settings of generation, as `packaged.generation` returns them
        :param free: whether it may break the adapter's response schema. Where it may not, only a name that comes twice
            in an object can break it, or the end of an answer that did not end by itself.
        :param before: token ids that the prompt's stand behind
        """
        # Something must be given: of no prompt, what stands before a text.
        ids = [*before, *self.encode(prompt)] or [self.start]
        return self._answer([ids], adapter, given, None if free else self._schemas.get(adapter))[0]

    def answers(
        self, prompts: Sequence[str], adapter: str | None, given: Mapping[str, Any] = PLAIN, free: bool = False
    ) -> list[tuple[str, bool]]:
        """Return what `answer` has for each prompt, but for floats: a product of several rows rounds otherwise.

        What is held to a schema, and graphs of static shapes, answer one by one.
        """
        loaded, schema = self._with(adapter), None if free else self._schemas.get(adapter)
        rows = [self.encode(prompt) or [self.start] for prompt in prompts]
        size = self._batch if schema is None and loaded.window is None else 1
        by_index = {}
        pad = self._tokenizer.pad_token_id
        for indices in _batches(rows, size, given, loaded.context, pad, loaded.padded):
            answered = self._answer([rows[index] for index in indices], adapter, given, schema)
            by_index |= dict(zip(indices, answered, strict=True))
        return [by_index[index] for index in range(len(prompts))]

    def _answer(
        self, rows: Sequence[list[int]], adapter: str | None, given: Mapping[str, Any], schema: dict | None
    ) -> list[tuple[str, bool]]:
        """Return the greedy answer to each row of token ids, as `answer` does; shorter rows are padded behind."""
        loaded, width = self._with(adapter), max(map(len, rows))
        length = min(width + given["max_new_tokens"], loaded.context)
        length = max(length, loaded.room(width) if loaded.window else 0)
        generator = self._generator(loaded, length, adapter, given=given, schema=schema, batch=len(rows))
        pad = self._tokenizer.pad_token_id
        generator.append_tokens(np.array([row + [pad] * (width - len(row)) for row in rows], np.int32))
        limits = [min(given["max_new_tokens"], loaded.context - len(row)) for row in rows]
        answers: list[list[int]] = [[] for _ in rows]
        going = [index for index, limit in enumerate(limits) if limit > 0]
        while going and not generator.is_done():
            generator.generate_next_token()
            tokens = generator.get_next_tokens()
            for index in going:
                answers[index].append(int(tokens[index]))
            going = [index for index in going if not self._ends(answers[index], limits[index], given["stop"])]
        return [
            (decoding.cut(self._tokenizer.decode(tokens), given["stop"]), len(tokens) < limit)
            for tokens, limit in zip(answers, limits, strict=True)
        ]

    def _ends(self, tokens: list[int], limit: int, stops: Sequence[str]) -> bool:
        """Tell whether an answer is at its end."""
        if len(tokens) == limit or tokens[-1] in self._tokenizer.eos_token_ids:
            return True
        return bool(stops) and any(stop in self._tokenizer.decode(tokens) for stop in stops)

    def _load(self, folder: Path) -> Loaded:
        described = packaged.runtime_config(folder / paths.RUNTIME_CONFIG)["model"]
        config = og.Config(str(folder))
        # Threads that spin until the others are done would take a core from whoever has something to do.
        options = {"intra_op_num_threads": self._threads, "session.intra_op.allow_spinning": "0"}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        static = described["type"] == "decoder-pipeline"
        window = described["decoder"]["sliding_window"]["window_size"] if static else None
        padded = not packaged.STATES & described["decoder"].get("inputs", {}).keys()
        return Loaded(og.Model(config), described["context_length"], window, padded)

    def _with(self, adapter: str | None) -> Loaded:
        """Return the model that answers with an adapter."""
        if adapter not in self._merged:
            return self._bare
        if adapter not in self._loaded:
            self._loaded[adapter] = self._load(self._merged[adapter])
        return self._loaded[adapter]

    def _generator(
        self,
        loaded: Loaded,
        max_length: int,
        adapter: str | None,
        min_length: int = 0,
        given: Mapping[str, Any] = PLAIN,
        schema: dict | None = None,
        batch: int = 1,
    ) -> og.Generator:
        params = og.GeneratorParams(loaded.model)
        options = packaged.search_options(given, greedy=True)
        params.set_search_options(batch_size=batch, max_length=max_length, min_length=min_length, **options)
        if schema is not None:
            params.set_guidance("json_schema", json.dumps(schema))
        generator = og.Generator(loaded.model, params)
        if adapter and adapter not in self._merged:
            generator.set_active_adapter(self._adapters, adapter)
        return generator


def _batches(
    rows: Sequence[list[int]], size: int, given: Mapping[str, Any], context: int, pad: int, padded: bool
) -> Iterator[list[int]]:
    """Yield the indices of rows of token ids that are answered together: short ones first, at most so many.

    Rows of several lengths go together where padding the shorter ones changes no answer: the repetition penalty counts
    it, so that a row has to have that token already, and it takes room in the context. The runtime takes the token at
    a row's end for padding, so that such a row is alone.

    :param pad: the token
    :param padded: whether the model is as if there were no padding
    """

    def may_grow(batch: list[int], row: list[int]) -> bool:
        if len(batch) == size or pad in (row[-1], rows[batch[-1]][-1]):
            return False
        unseen = float(given["repetition_penalty"]) != 1 and not all(pad in rows[index] for index in batch)
        fits = len(row) + given["max_new_tokens"] <= context
        return len(row) == len(rows[batch[0]]) or (padded and fits and not unseen)

    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index])):
        if batch and not may_grow(batch, rows[index]):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
