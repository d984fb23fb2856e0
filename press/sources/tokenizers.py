"""Tokenizers that come with no checkpoint of their own: how they are saved, and one that needs no training."""

from pathlib import Path
from typing import TYPE_CHECKING

from press.core import files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save(tokenizer: "PreTrainedTokenizerBase", target: Path) -> None:
    """Save a tokenizer without the key that says whether it was loaded with a hub in reach."""
    tokenizer.save_pretrained(target)
    config = files.read_json(target / "tokenizer_config.json")
    config.pop("local_files_only", None)
    files.write_json(target / "tokenizer_config.json", config)


def of_bytes() -> "PreTrainedTokenizerBase":
    """Return a tokenizer with one token a byte and the ChatML marks: nothing trained, nothing downloaded."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=marks[0], pad_token=marks[0], eos_token=marks[2], chat_template=CHATML
    )
