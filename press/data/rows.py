"""Rows of tokens from a file of text: what is calibrated on, and the general text of the evaluation."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from press.core.errors import UserError
from press.data import passages, tokens
from press.data.examples import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def cut(path: Path, tokenizer: "PreTrainedTokenizerBase", count: int, row_tokens: int, block: str) -> list[list[int]]:
    """Tokenize the passages of a file, join them and cut equal rows.

    Each row begins as every text does that the model is given: a model is calibrated, and judged, as it is used.

    :param block: the parameters' block with data, rows and row_tokens
    :return: `count` rows of `row_tokens` token ids
    :raises UserError: if a line is no passage, or the file has too few tokens for the rows
    """
    start = tokens.start(tokenizer)
    width = row_tokens - len(start)
    wanted = count * width
    ids: list[int] = []
    # All lines are read, so that a mistake is told wherever it stands.
    for text in passages.read(path, tokenizer, block):
        ids += tokens.encode(tokenizer, text)
        if len(ids) >= wanted:
            break
    if len(ids) < wanted:
        raise UserError(
            f"{path} has {len(ids)} tokens, but {block} needs {wanted} for {count} rows of {row_tokens}: add text or "
            f"lower {block}.rows"
        )
    return [start + ids[place : place + width] for place in range(0, wanted, width)]


def examples(
    path: Path, tokenizer: "PreTrainedTokenizerBase", count: int, row_tokens: int, block: str
) -> list[Example]:
    """Return rows of text as examples that are nothing but completion, behind the token that starts every text."""
    start = len(tokens.start(tokenizer))
    return [
        Example(prompt="", completion=cast(str, tokenizer.decode(row[start:])), input_ids=row, prompt_tokens=start)
        for row in cut(path, tokenizer, count, row_tokens, block)
    ]
