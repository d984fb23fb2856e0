"""Let a PyTorch model answer prompts, choosing the likeliest token each time, as the runtime does."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from press.data.examples import Example
from press.model import decoding

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH = 48


def answers(
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    examples: Sequence[Example],
    given: Mapping[str, Any],
    ends: Iterable[int],
) -> list[str]:
    """Return the answer to each example's prompt, special tokens left out.

    :param given: settings of generation, as `press.model.packaged.generation` returns them
    :param ends: ids of the tokens that end a turn
    """
    import torch
    from transformers import StoppingCriteriaList

    where, ends = next(model.parameters()).device, list(ends)
    # Causal language models have it, and no common type says so.
    generate = cast(Callable[..., torch.Tensor], model.generate)
    decoded = []
    for start in range(0, len(examples), BATCH):
        rows = [example["input_ids"][: example["prompt_tokens"]] for example in examples[start : start + BATCH]]
        width = max(map(len, rows))
        # An answer goes on where its prompt ends, so that shorter prompts are padded on the left, by a token that they
        # have: the repetition penalty looks at what is masked, too.
        ids = torch.tensor([row[:1] * (width - len(row)) + row for row in rows], device=where)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=where)
        with torch.inference_mode():
            tokens = generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=given["max_new_tokens"],
                do_sample=False,
                repetition_penalty=float(given["repetition_penalty"]),
                # The runtime's settings do not have it, whatever the checkpoint's generation config says.
                no_repeat_ngram_size=0,
                stopping_criteria=StoppingCriteriaList([_stopping(tokenizer, width, given["stop"])]),
                eos_token_id=ends or None,
                pad_token_id=ends[0] if ends else 0,
            )
        texts = tokenizer.batch_decode(tokens[:, width:], skip_special_tokens=True)
        decoded += [decoding.cut(text, given["stop"]) for text in texts]
    return decoded


def _stopping(
    tokenizer: "PreTrainedTokenizerBase", width: int, stops: Sequence[str]
) -> Callable[["torch.Tensor", object], "torch.Tensor"]:
    """Return what tells of each row of tokens whether its answer, behind `width` tokens, has a stop text."""
    import torch

    def stopped(ids: "torch.Tensor", scores: object) -> "torch.Tensor":
        texts = tokenizer.batch_decode(ids[:, width:]) if stops else [""] * len(ids)
        return torch.tensor([any(stop in text for stop in stops) for text in texts], device=ids.device)

    return stopped
