"""Text becomes tokens: the same ones in training, in calibration, in evaluation and on the device.

The literal text of a template may hold control tokens, such as <|im_end|>. What stands in its fields is a person's
text, of which no tokenizer may make one. The device's cannot be told to read it as plain text, so that it is refused.
"""

from typing import TYPE_CHECKING

from press.data.examples import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Return the token ids of a text as it stands, without tokens that a tokenizer would add."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def example(tokenizer: "PreTrainedTokenizerBase", prompt: str, completion: str) -> Example:
    """Tokenize prompt and completion as one text and mark where the prompt's tokens end."""
    encoded = tokenizer(prompt + completion, add_special_tokens=False, return_offsets_mapping=True)
    prompt_tokens = sum(end <= len(prompt) for _, end in encoded["offset_mapping"])
    return Example(prompt=prompt, completion=completion, input_ids=encoded["input_ids"], prompt_tokens=prompt_tokens)


def start(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the token that the tokenizer puts before every text, in a list; not all models have such a token."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("a")["input_ids"][0] == bos else []


def control(tokenizer: "PreTrainedTokenizerBase") -> dict[int, str]:
    """Map the ids of the control tokens to what they are called."""
    return {token: each.content for token, each in tokenizer.added_tokens_decoder.items() if each.special}


def complaint(text: str, tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """Return what keeps a person's text from being read as it stands, or None."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "has half of a surrogate pair, which is no character"
    if "\0" in text:
        return "has the character U+0000, at which a device cuts a text off"
    names = control(tokenizer)
    for token in encode(tokenizer, text):
        if token in names:
            return f"has {names[token]!r}, which the base model reads as a control token: write it otherwise"
    return None
