"""The tokenizer of bytes gives every text back."""

from hypothesis import assume, given
from hypothesis import strategies as st

from press.sources import tokenizers

TOKENIZER = tokenizers.of_bytes()


@given(st.text())
def test_the_byte_tokenizer_gives_every_text_back(text):
    # Hypothesis also tries the constants of the code, such as the marks themselves.
    assume(not any(mark in text for mark in TOKENIZER.all_special_tokens))
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids) == text
    assert len(ids) == len(text.encode())


def test_the_byte_tokenizer_has_one_token_for_each_mark():
    ids = TOKENIZER("<|im_start|>é<|im_end|>", add_special_tokens=False)["input_ids"]
    assert TOKENIZER.convert_ids_to_tokens(ids)[::3] == ["<|im_start|>", "<|im_end|>"]
    assert len(ids) == 4
