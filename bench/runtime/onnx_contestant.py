"""A contestant's process: a package, or the bare graph, run by onnxruntime-genai."""

import json
import time
from pathlib import Path

import numpy as np
import onnxruntime_genai as og

from bench.runtime import worker
from press.core import paths
from press.model import packaged


class Contestant:
    """A loaded model and its adapters."""

    def start(self, options: dict) -> dict:
        """Load the model in options["model"] for options["threads"] threads.

        :return: {"load_s": seconds}
        """
        packaged.runtime_config(Path(options["model"]) / paths.RUNTIME_CONFIG)
        start = time.perf_counter()
        config = og.Config(options["model"])
        session_options = {"intra_op_num_threads": options["threads"]} | options.get("session_options", {})
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session_options}}}))
        self._model = og.Model(config)
        self._adapters = og.Adapters(self._model)
        return {"load_s": time.perf_counter() - start}

    def load_adapter(self, request: dict) -> dict:
        """Load the adapter file request["path"] under request["adapter"].

        :return: {"load_s": seconds}
        """
        start = time.perf_counter()
        self._adapters.load(request["path"], request["adapter"])
        return {"load_s": time.perf_counter() - start}

    def generate(self, request: dict) -> dict:
        """Decode request["tokens"] tokens greedily after the first, behind the prompt request["ids"].

        :return: seconds: "ttft_s" until the first token, "prompt_s" for the prompt alone, "decode_s" for the tokens
            after the first, "switch_s" to make the adapter the active one
        """
        start = time.perf_counter()
        generator = self._generator(len(request["ids"]) + 1 + request["tokens"])
        before = time.perf_counter()
        if request["adapter"]:
            generator.set_active_adapter(self._adapters, request["adapter"])
        switched = time.perf_counter()
        generator.append_tokens(request["ids"])
        read = time.perf_counter()
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(request["tokens"]):
            generator.generate_next_token()
        end = time.perf_counter()
        return {
            "ttft_s": first - start,
            "prompt_s": read - switched,
            "decode_s": end - first,
            "switch_s": switched - before,
        }

    def score(self, request: dict) -> dict:
        """Return the summed negative log-likelihood of request["ids"] after the first: {"loss": nats}."""
        generator = self._generator(len(request["ids"]) + 1)
        if request["adapter"]:
            generator.set_active_adapter(self._adapters, request["adapter"])
        generator.append_tokens(request["ids"])
        logits = generator.get_output("logits")[0, :-1].astype(np.float64)
        chosen = np.take_along_axis(logits, np.array(request["ids"][1:])[:, None], -1)[:, 0]
        largest = logits.max(-1)
        totals = largest + np.log(np.exp(logits - largest[:, None]).sum(-1))
        return {"loss": float((totals - chosen).sum())}

    def _generator(self, length: int) -> og.Generator:
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=length, min_length=length, do_sample=False)
        return og.Generator(self._model, params)


if __name__ == "__main__":
    contestant = Contestant()
    names = ("load_adapter", "generate", "score")
    worker.serve(contestant.start, {name: getattr(contestant, name) for name in names})
