"""The device reads texts in the tokens of the training, or the model is refused."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from press.core.errors import UserError
from press.data import tokens
from press.model import device_tokenizer
from press.sources import gguf_tokenizer, tokenizers

PLAIN = "Where to go?"
PLAN = "Check my plan:\n  1. Rome\n  2. Oslo"


def parting() -> PreTrainedTokenizerBase:
    """A tokenizer that parts digits from what is before them, which onnxruntime-genai's does not."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "Ġ"), ("Ċ", "Ġ"), ("Ċ", "ĠĠ"), ("Ġ", "1")]
    vocab = {symbol: index for index, symbol in enumerate([*alphabet, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|im_end|>", special=True, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")


@pytest.mark.parametrize("text", [PLAIN, PLAN, "é 🌍 \u2028\x85", "<|im_start|>user\nhi<|im_end|>", ""])
def test_the_device_reads_a_text_as_the_training_does(text):
    tokenizer = tokenizers.of_bytes()
    device = device_tokenizer.before_capture(tokenizer)
    assert device(text) == tokens.encode(tokenizer, text)
    device_tokenizer.check(device, tokenizer, [PLAIN, text])


def test_a_text_that_the_device_reads_otherwise_is_named_wherever_it_stands():
    tokenizer = parting()
    device = device_tokenizer.before_capture(tokenizer)
    device_tokenizer.check(device, tokenizer, [PLAIN])
    with pytest.raises(UserError) as caught:
        device_tokenizer.check(device, tokenizer, [PLAIN, PLAN])
    assert str(caught.value) == (
        "the device reads 'Check my plan:\\n  1. Rome\\n  2. Oslo' in 31 tokens, other ones than the 30 of the "
        "training: at 'eck my plan:\\n  1. Rome\\n ' onnxruntime-genai has the token 257 ('\\n ') where transformers "
        "has the token 258 ('\\n  '); choose a base model whose tokenizer both read alike"
    )


@pytest.mark.parametrize(("read", "words"), [([33], "no token where"), ([33, 34, 35], "the token 35")])
def test_a_text_of_which_one_has_more_tokens_is_told(read, words):
    with pytest.raises(UserError, match=words):
        device_tokenizer.check(lambda text: read, tokenizers.of_bytes(), ["BC"])


def test_a_text_that_would_be_cut_off_is_refused():
    device = device_tokenizer.before_capture(tokenizers.of_bytes())
    with pytest.raises(UserError, match=r"^a text for the model has the character U\+0000, which would cut it off"):
        device("a\0b")


def test_a_tokenizer_that_the_device_cannot_open_is_refused():
    tokenizer = tokenizers.of_bytes()
    gguf_tokenizer.set_pre_tokenizer(tokenizer, "a.gguf", "deepseek-coder")
    with pytest.raises(UserError, match=r"^onnxruntime-genai cannot read the base model's tokenizer \(Invalid regex: "):
        device_tokenizer.before_capture(tokenizer)


def test_a_text_at_which_the_device_fails_is_named():
    class Failing:
        def encode(self, _: str) -> list[int]:
            raise RuntimeError("basic_string_view::substr")

    with pytest.raises(
        UserError, match=r"^onnxruntime-genai's tokenizer fails at 'a text' \(basic_string_view::substr\)"
    ):
        device_tokenizer.encode(Failing(), "a text")
