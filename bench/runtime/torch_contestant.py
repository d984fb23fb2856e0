"""A contestant's process: the base model in fp32, run by Hugging Face transformers with its KV cache."""

import time

import torch
from transformers import AutoModelForCausalLM

from bench.runtime import worker


class Contestant:
    """A loaded model."""

    def start(self, options: dict) -> dict:
        """Load the checkpoint in options["model"] for options["threads"] threads.

        :return: {"load_s": seconds}
        """
        torch.set_num_threads(options["threads"])
        start = time.perf_counter()
        self._model = AutoModelForCausalLM.from_pretrained(options["model"], dtype=torch.float32).eval()
        return {"load_s": time.perf_counter() - start}

    @torch.inference_mode()
    def generate(self, request: dict) -> dict:
        """Decode request["tokens"] tokens greedily after the first, behind the prompt request["ids"].

        :return: seconds: "ttft_s" until the first token, "prompt_s" the same, "decode_s" for the tokens after it
        """
        start = time.perf_counter()
        output = self._model(torch.tensor([request["ids"]]), use_cache=True, logits_to_keep=1)
        token = output.logits[:, -1].argmax(-1, keepdim=True)
        first = time.perf_counter()
        for _ in range(request["tokens"]):
            output = self._model(token, past_key_values=output.past_key_values, use_cache=True)
            token = output.logits[:, -1].argmax(-1, keepdim=True)
        return {"ttft_s": first - start, "prompt_s": first - start, "decode_s": time.perf_counter() - first}

    @torch.inference_mode()
    def score(self, request: dict) -> dict:
        """Return the summed negative log-likelihood of request["ids"] after the first: {"loss": nats}."""
        ids = torch.tensor(request["ids"])
        logits = self._model(ids[None]).logits[0, :-1].double().log_softmax(-1)
        return {"loss": -logits.gather(-1, ids[1:, None]).sum().item()}


if __name__ == "__main__":
    contestant = Contestant()
    worker.serve(contestant.start, {name: getattr(contestant, name) for name in ("generate", "score")})
