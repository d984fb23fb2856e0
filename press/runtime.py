"""Run a captured model with onnxruntime-genai, bare or with one of its adapters."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime_genai as og

CONTEXT_MARGIN = 1


class Runtime:
    """A captured model with the adapters in `adapters/NAME/adapter.onnx_adapter`, on a fixed number of threads."""

    def __init__(self, model: Path, adapters: dict[str, Path], threads: int) -> None:
        config = og.Config(str(model))
        options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = og.Model(config)
        self._tokenizer = og.Tokenizer(self._model)
        self._adapters = og.Adapters(self._model)
        self._context = json.loads((model / "genai_config.json").read_text(encoding="utf-8"))["model"]["context_length"]
        for name, path in adapters.items():
            self._adapters.load(str(path), name)

    @property
    def context(self) -> int:
        """How many tokens a prompt and its answer may have."""
        return self._context

    @property
    def start(self) -> int:
        """The token that stands before a text."""
        return self._tokenizer.bos_token_id

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        return [int(token) for token in self._tokenizer.encode(text)]

    def logits(self, ids: list[int], adapter: str | None) -> np.ndarray:
        """Return the logits of a whole sequence, fp32 of shape (tokens, vocabulary)."""
        generator = self._generator(ids, len(ids) + CONTEXT_MARGIN, adapter)
        return generator.get_output("logits")[0].astype(np.float32)

    def answer(
        self, prompt: str, adapter: str | None, max_new_tokens: int, stops: Sequence[str] = ()
    ) -> tuple[str, bool]:
        """Return the greedy answer, which ends at the model's context at the latest, and whether it ended by itself.

        :param stops: texts of which the first that comes up also ends the answer, which has it
        """
        ids = self.encode(prompt)
        longest = min(len(ids) + max_new_tokens, self._context)
        generator = self._generator(ids, longest, adapter)
        tokens = []
        while not generator.is_done():
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
            if stops and any(stop in self._tokenizer.decode(tokens) for stop in stops):
                break
        return self._tokenizer.decode(tokens), len(ids) + len(tokens) < longest

    def _generator(self, ids: list[int], max_length: int, adapter: str | None) -> og.Generator:
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=max_length, do_sample=False)
        generator = og.Generator(self._model, params)
        if adapter:
            generator.set_active_adapter(self._adapters, adapter)
        generator.append_tokens(ids)
        return generator
