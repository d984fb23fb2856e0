"""PyTorch answers in batches what the runtime answers one by one."""

import pytest
import torch
from parity import captured_to
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from press.model import checkpoints, packaged
from press.model.runtime import Runtime
from press.quality import generation
from press.sources import tokenizers

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
    # What a checkpoint's own generation config says is in an adapter's settings, or in none.
    model.generation_config.repetition_penalty = 1.3
    given = generation.answers(model, tokenizer, examples, LENGTH, checkpoints.eos_ids(tiny_quantized))
    assert given == [answered(runtime, tokenizer, ids, 12) for ids in prompts]
    assert len(set(given)) > 1


def test_settings_do_the_same_in_both(tiny_quantized, tmp_path, in_root):
    """A penalty counts the prompt's tokens, too, and no padding; an answer ends before its stop text."""
    runtime = Runtime(captured_to(tmp_path, tiny_quantized), {}, threads=2)
    tokenizer = AutoTokenizer.from_pretrained(tiny_quantized)
    prompts = [runtime.encode(prompt) for prompt in PROMPTS[:4]]
    examples = [{"input_ids": ids, "prompt_tokens": len(ids)} for ids in prompts]
    model = checkpoints.dequantize(checkpoints.load(tiny_quantized))

    def answers(**changes: object) -> list[str]:
        return generation.answers(model, tokenizer, examples, LENGTH | changes, checkpoints.eos_ids(tiny_quantized))

    penalized = answers(repetition_penalty=1.5)
    assert penalized == [written(runtime, tokenizer, ids, LENGTH | {"repetition_penalty": 1.5}) for ids in prompts]
    assert penalized != answers()
    stop = penalized[0][3:5]
    assert answers(repetition_penalty=1.5, stop=[stop]) == [text.partition(stop)[0] for text in penalized]


def test_padding_is_a_token_that_the_prompt_has(monkeypatch):
    """The repetition penalty counts it, though it is masked."""
    asked = []

    def generate(input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        asked.extend(input_ids.tolist())
        return input_ids

    model = torch.nn.Linear(1, 1)
    monkeypatch.setattr(model, "generate", generate, raising=False)
    examples = [{"input_ids": [40, 41], "prompt_tokens": 2}, {"input_ids": [50, 51, 52, 53], "prompt_tokens": 4}]
    assert generation.answers(model, tokenizers.of_bytes(), examples, LENGTH, [1]) == ["", ""]
    assert asked == [[40, 40, 40, 41], [50, 51, 52, 53]]


def written(runtime: Runtime, tokenizer: PreTrainedTokenizerBase, ids: list[int], settings: dict) -> str:
    """What the runtime itself chooses, as PyTorch's tokenizer shows it."""
    generator = runtime._generator(runtime._bare, len(ids) + settings["max_new_tokens"], None, given=settings)
    generator.append_tokens(ids)
    while not generator.is_done():
        generator.generate_next_token()
    return tokenizer.decode(generator.get_sequence(0)[len(ids) :], skip_special_tokens=True)


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
