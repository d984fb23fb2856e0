"""Let a PyTorch model answer prompts, choosing the likeliest token each time, as the runtime does."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, cast

from press.data.examples import Example

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH = 48


def answers(
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    examples: Sequence[Example],
    max_new_tokens: int,
    ends: Iterable[int],
) -> list[str]:
    """Return the answer to each example's prompt, special tokens left out.

    :param max_new_tokens: tokens that an answer may have
    :param ends: ids of the tokens that end a turn
    """
    import torch

    where, ends = next(model.parameters()).device, list(ends)
    # Causal language models have it, and no common type says so.
    generate = cast(Callable[..., torch.Tensor], model.generate)
    found = []
    for start in range(0, len(examples), BATCH):
        rows = [example["input_ids"][: example["prompt_tokens"]] for example in examples[start : start + BATCH]]
        width = max(map(len, rows))
        # An answer goes on where its prompt ends, so that shorter prompts are padded on the left.
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=where)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=where)
        with torch.inference_mode():
            tokens = generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                # The runtime's settings have neither, whatever the checkpoint's generation config says.
                repetition_penalty=1.0,
                no_repeat_ngram_size=0,
                eos_token_id=ends or None,
                pad_token_id=ends[0] if ends else 0,
            )
        found += tokenizer.batch_decode(tokens[:, width:], skip_special_tokens=True)
    return found
