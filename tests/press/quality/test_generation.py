"""PyTorch answers in batches what the runtime answers one by one."""

import pytest
from parity import captured_to
from transformers import AutoTokenizer

from press.model import checkpoints, packaged
from press.model.runtime import Runtime
from press.quality import generation

pytestmark = pytest.mark.integration
LENGTH = packaged.generation({"max_new_tokens": 12})
PROMPTS = [
    "What to pack?",
    "three days in Rome in the rain",
    "a",
    "the Alps, by train, with a dog and two bicycles",
] * 5


def test_the_runtime_gives_the_same_answers(tiny_quantized, tmp_path, in_root):
    runtime = Runtime(captured_to(tmp_path, tiny_quantized), {}, threads=2)
    tokenizer = AutoTokenizer.from_pretrained(tiny_quantized)
    prompts = [runtime.encode(prompt) for prompt in PROMPTS]
    examples = [{"input_ids": [*ids, 65, 66], "prompt_tokens": len(ids)} for ids in prompts]
    model = checkpoints.dequantize(checkpoints.load(tiny_quantized))
    # As some checkpoints' generation configs have it, which no builder of graphs reads.
    model.generation_config.repetition_penalty = 1.3
    given = generation.answers(model, tokenizer, examples, LENGTH, checkpoints.eos_ids(tiny_quantized))
    assert given == [answered(runtime, tokenizer, ids, 12) for ids in prompts]
    assert len(set(given)) > 1


def answered(runtime, tokenizer, ids, length):
    """The runtime's tokens as PyTorch's tokenizer shows them: its own leaves out what is no UTF-8."""
    tokens = []
    while len(tokens) < length and tokenizer.eos_token_id not in tokens:
        tokens.append(int(runtime.logits(ids + tokens, None)[-1].argmax()))
    return tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("length", [1, 5])
def test_an_answer_ends_at_its_limit(tiny_quantized, length):
    tokenizer = AutoTokenizer.from_pretrained(tiny_quantized)
    examples = [{"input_ids": [40, 41, 42], "prompt_tokens": 3}]
    (answer,) = generation.answers(
        checkpoints.load(tiny_quantized), tokenizer, examples, packaged.generation({"max_new_tokens": length}), []
    )
    assert len(tokenizer(answer, add_special_tokens=False)["input_ids"]) <= 3 * length
