"""Rows of tokens from a JSON Lines file of text: what is calibrated on, and the general text of the evaluation."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from jinja2 import TemplateError

from press.core.errors import UserError
from press.data import jsonl
from press.data.examples import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokens(
    path: Path, tokenizer: "PreTrainedTokenizerBase", count: int, row_tokens: int, block: str
) -> list[list[int]]:
    """Tokenize the lines of a file, join them and cut equal rows.

    A line is an object with a "text", or with the "messages" of a chat, which the model's own chat template
    turns into text.

    :param block: the parameters' block with data, rows and row_tokens
    :return: `count` rows of `row_tokens` token ids
    :raises UserError: if a line has neither, or the file has too few tokens for the rows
    """
    wanted = count * row_tokens
    ids: list[int] = []
    # All lines are read, so that a mistake is told wherever it stands.
    for text in list(_texts(path, tokenizer, block)):
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= wanted:
            break
    if len(ids) < wanted:
        raise UserError(
            f"{path} has {len(ids)} tokens, but {block} needs {count} rows of {row_tokens}, {wanted} in all: "
            f"add text or lower {block}.rows"
        )
    return [ids[start : start + row_tokens] for start in range(0, wanted, row_tokens)]


def examples(
    path: Path, tokenizer: "PreTrainedTokenizerBase", count: int, row_tokens: int, block: str
) -> list[Example]:
    """Return rows of text as examples that are nothing but completion, behind the token that starts every text.

    Not all models have such a token.
    """
    start = tokenizer.bos_token_id
    before = [start] if start is not None and tokenizer("a")["input_ids"][0] == start else []
    return [
        Example(
            prompt="", completion=cast(str, tokenizer.decode(row)), input_ids=before + row, prompt_tokens=len(before)
        )
        for row in tokens(path, tokenizer, count, row_tokens, block)
    ]


def _texts(path: Path, tokenizer: "PreTrainedTokenizerBase", block: str) -> Iterator[str]:
    """Yield the text of each line, with what separates it from the next."""
    try:
        lines = list(jsonl.lines(path))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"{path} is not a file: {block}.data names the text") from error
    for number, line in lines:
        try:
            passage = jsonl.parse(line)
            if "messages" not in passage:
                yield passage["text"] + "\n\n"
                continue
            if not all(message["content"] for message in passage["messages"]):
                raise ValueError("an empty message")
            yield cast(str, tokenizer.apply_chat_template(passage["messages"], tokenize=False))
        except (ValueError, TypeError, KeyError, TemplateError) as error:
            raise UserError(
                f'{path} line {number}: not a JSON object with a "text", or with "messages" that fit the model\'s '
                "chat template"
            ) from error
