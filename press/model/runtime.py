"""Run a captured model with onnxruntime-genai, bare or with one of its adapters."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    """

    model: og.Model
    context: int
    window: int | None

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

    def __init__(self, model: Path, adapters: dict[str, Path], threads: int, at_once: int = 1) -> None:
        """Load a model.

        :param at_once: how many prompts `answers` answers side by side
        """
        self._threads = threads
        self._at_once = at_once
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
            some = ids[start : start + window]
            generator.append_tokens(some)
            parts.append(generator.get_output("logits")[0][: len(some)].astype(np.float32, copy=False))
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
        loaded, ids = self._with(adapter), [*before, *self.encode(prompt)]
        longest = min(len(ids) + given["max_new_tokens"], loaded.context)
        length = max(longest, loaded.room(len(ids)) if loaded.window else 0)
        schema = None if free else self._schemas.get(adapter)
        generator = self._generator(loaded, length, adapter, given=given, schema=schema)
        generator.append_tokens(ids)
        tokens = []
        while not generator.is_done() and len(ids) + len(tokens) < longest:
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
            if given["stop"] and any(stop in self._tokenizer.decode(tokens) for stop in given["stop"]):
                break
        ended = len(ids) + len(tokens) < longest
        return decoding.cut(self._tokenizer.decode(tokens), given["stop"]), ended

    def answers(
        self, prompts: Sequence[str], adapter: str | None, given: Mapping[str, Any] = PLAIN, free: bool = False
    ) -> list[tuple[str, bool]]:
        """Return what `answer` has for each prompt.

        They are no batch: the products of several rows have other floats, so that answers would depend on each other.
        """
        self._with(adapter)
        with ThreadPoolExecutor(self._at_once) as pool:
            return list(pool.map(lambda prompt: self.answer(prompt, adapter, given, free), prompts))

    def _load(self, folder: Path) -> Loaded:
        described = packaged.runtime_config(folder / paths.RUNTIME_CONFIG)["model"]
        config = og.Config(str(folder))
        options: dict[str, int | str] = {"intra_op_num_threads": self._threads}
        if self._at_once > 1:
            # Threads that spin until the others are done would take the cores from other prompts: a third of the time.
            options["session.intra_op.allow_spinning"] = "0"
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        static = described["type"] == "decoder-pipeline"
        window = described["decoder"]["sliding_window"]["window_size"] if static else None
        return Loaded(og.Model(config), described["context_length"], window)

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
    ) -> og.Generator:
        params = og.GeneratorParams(loaded.model)
        options = packaged.search_options(given, greedy=True)
        params.set_search_options(max_length=max_length, min_length=min_length, **options)
        if schema is not None:
            params.set_guidance("json_schema", json.dumps(schema))
        generator = og.Generator(loaded.model, params)
        if adapter and adapter not in self._merged:
            generator.set_active_adapter(self._adapters, adapter)
        return generator
