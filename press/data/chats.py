"""A model's own chat template, which is a program of who made the model, and may fail in any way."""

from typing import TYPE_CHECKING, Any, cast

from press.core import limits

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of processor time, for one chat: thousands of times what a template takes that ends.
SECONDS = 10


def text(tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]]) -> str:
    """Return the text that a model is given for a chat.

    :raises ValueError: if the chat template fails or does not end, with its reason
    """
    try:
        with limits.processor_time(SECONDS):
            return cast(str, tokenizer.apply_chat_template(messages, tokenize=False))
    except Exception as error:
        # Jinja lets through what Python raises, such as RecursionError and ZeroDivisionError.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"a chat that the base model's chat template does not take: {reason}") from error
