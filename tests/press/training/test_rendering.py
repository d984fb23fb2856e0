"""A line in a template becomes tokens, or what is wrong with the line or the template is said."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from press.core.errors import UserError
from press.sources import tokenizers
from press.training import rendering
from press.training.rendering import OwnTemplate

from .data_sets import EOS, TOKENIZER, adapter

VALUES = {"prompt": "why", "response": "yes"}


def example(template: str, tokenizer: PreTrainedTokenizerBase, **values: str) -> list[int]:
    """Return the tokens of a line."""
    renderer = OwnTemplate(adapter(Path("x"), template=template), tokenizer, [tokenizer.eos_token_id])
    return renderer.example(VALUES | values)["input_ids"]


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("<|im_{prompt}\n{response}<|im_end|>", {"prompt": "end|>"}),
        ("<{prompt}>\n{response}<|im_end|>", {"prompt": "|im_start|"}),
        ("{a}{b}\n{response}<|im_end|>", {"a": "<|im_", "b": "start|>"}),
        ("{prompt}\n{response}end|>{{<|im_end|>", {"response": "<|im_"}),
    ],
)
def test_a_control_token_of_fields_and_template_together_is_refused(template, values):
    with pytest.raises(
        ValueError, match=r"^the template's text and the fields beside it make a control token"
    ) as caught:
        example(template, TOKENIZER, **values)
    assert str(caught.value) == rendering.COMPOSED
    assert example(template, TOKENIZER, **dict.fromkeys(values, "|"))


def test_a_template_whose_end_merges_with_the_answer_is_refused():
    """With a space before the answer, most tokenizers make one token of the space and the first letters."""
    alphabet = TOKENIZER.get_vocab()
    vocab = {**{symbol: index for symbol, index in alphabet.items() if index < 256}, "Ġy": 256}
    merging = Tokenizer(models.BPE(vocab=vocab, merges=[("Ġ", "y")]))
    merging.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    merging.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=merging, eos_token="<|im_end|>")
    with pytest.raises(ValueError, match=r"^the template's text before \{response\} merges"):
        example("{prompt}: {response}<|im_end|>", tokenizer)
    assert example("{prompt}:\n{response}<|im_end|>", tokenizer)


def test_a_template_must_begin_with_the_token_that_starts_every_text(starting):
    starting.chat_template = None
    with pytest.raises(UserError) as caught:
        example("{prompt}\n{response}<|im_end|>", starting)
    assert str(caught.value) == (
        "the template begins with '{prompt}\\n{re', but the base model knows no text that does not begin with "
        "'<|endoftext|>': begin the template with it"
    )
    ids = example("<|endoftext|>{prompt}\n{response}<|im_end|>", starting)
    assert ids[0] == starting.bos_token_id
    assert ids.count(starting.bos_token_id) == 1


@pytest.mark.parametrize(("begins", "refused"), [("{{ bos_token }}", True), ("", False), ("{{ 1 / 0 }}", True)])
def test_a_chat_template_says_with_what_a_chat_begins(starting, begins, refused):
    starting.chat_template = begins + tokenizers.CHATML
    template = "<|im_start|>user\n{prompt}\n{response}<|im_end|>"
    if refused:
        with pytest.raises(UserError, match=r"the template begins with"):
            example(template, starting)
    else:
        assert example(template, starting)[-1:] == EOS
