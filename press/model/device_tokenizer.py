"""The tokenizer of the device, onnxruntime-genai's: it has to read texts as the one that a model is trained with."""

import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime_genai as og

from press.core import files, paths
from press.core.apart import Apart, ApartError
from press.core.errors import UserError
from press.data import tokens
from press.data.formats import Chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# How many characters of a text a sentence shows, and how many on either side of a place.
SHOWN = 80
CONTEXT = 12
# What onnxruntime-genai wants to know of a model before it opens the tokenizer beside it.
CONFIG = {"model": {"type": "llama", "context_length": 1, "decoder": {"filename": paths.GRAPH}}, "search": {}}

# For a thousand chats.
SECONDS = 60

Encode = Callable[[str], list[int]]


def of_model(folder: Path) -> Encode:
    """Return what encodes texts as a captured model's tokenizer does; the model itself is not loaded."""
    tokenizer = _opened(folder)
    return lambda text: encode(tokenizer, text)


def before_capture(tokenizer: "PreTrainedTokenizerBase") -> Encode:
    """Return what encodes texts as the tokenizer will that a captured model gets from a checkpoint."""
    return Device(tokenizer).encode


class Device:
    """The tokenizer that a captured model gets from a checkpoint, as the device reads it."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._trained = tokenizer
        self._folder = tempfile.TemporaryDirectory()
        tokenizer.save_pretrained(self._folder.name)
        files.write_json(Path(self._folder.name) / paths.RUNTIME_CONFIG, CONFIG)
        self._tokenizer = _opened(Path(self._folder.name))
        self._render = Apart(_renderer, self._folder.name, seconds=SECONDS)
        # The runtime lets Python go on while it reads a text.
        self._reading = ThreadPoolExecutor(1, "device")

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text.

        :raises UserError: if it has U+0000, at which onnxruntime-genai stops to read
        """
        return encode(self._tokenizer, text)

    def compare(self, text: str, ids: list[int]) -> None:
        """Refuse a base model of which the device reads a text in other tokens than those that are given.

        :raises UserError: with the text, and the first tokens that differ
        """
        _compare(self.encode(text), self._trained, text, ids)

    def begin_comparing(self, read: Iterable[tuple[str, list[int]]]) -> Callable[[], None]:
        """Compare texts and their tokens meanwhile, each as `compare` does, and return what waits for that."""

        def compare_all() -> None:
            for text, ids in read:
                self.compare(text, ids)

        return self._reading.submit(compare_all).result

    def begin(self, asked: Sequence[Chat], template: str | None) -> Callable[[], list[str | None]]:
        """Let the device make texts of chats meanwhile, each up to where the answer begins.

        :param template: in place of the model's own chat template
        :return: waits for them, and returns None for those that the device cannot render. It raises UserError if the
            device crashes at the template, or never ends
        """
        given = [(json.dumps(each.messages), each.tools and json.dumps(each.tools)) for each in asked]
        rendered = self._render.begin(given, template)

        def wait() -> list[str | None]:
            try:
                return rendered()
            except ApartError as error:
                raise UserError(
                    f"onnxruntime-genai cannot apply the base model's chat template ({error}): choose another one"
                ) from error

        return wait


def _opened(folder: Path) -> og.Tokenizer:
    try:
        return og.Tokenizer(og.Config(str(folder)))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"onnxruntime-genai cannot read the base model's tokenizer ({reason}): choose another base model"
        ) from error


def _renderer(folder: str) -> Callable[..., list[str | None]]:
    tokenizer = og.Tokenizer(og.Config(folder))

    def render(asked: Sequence[tuple[str, str]], template: str | None) -> list[str | None]:
        texts: list[str | None] = []
        given = {"template_str": template} if template else {}
        for messages, tools in asked:
            called = {"tools": tools} if tools else {}
            try:
                texts.append(tokenizer.apply_chat_template(messages, add_generation_prompt=True, **given, **called))
            # The latter where the text is no UTF-8.
            except (RuntimeError, UnicodeDecodeError):
                texts.append(None)
        return texts

    return render


def encode(tokenizer: og.Tokenizer, text: str) -> list[int]:
    """Return the token ids of a text.

    :raises UserError: if it has U+0000, at which onnxruntime-genai stops to read, or onnxruntime-genai fails at it
    """
    if "\0" in text:
        raise UserError(f"a text for the model has the character U+0000, which would cut it off: {text[:SHOWN]!r}")
    try:
        return tokenizer.encode(text).tolist()
    except RuntimeError as error:
        raise UserError(
            f"onnxruntime-genai's tokenizer fails at {text[:SHOWN]!r} ({error}): choose a base model whose tokenizer "
            "it reads"
        ) from error


def check(device: Encode, tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> None:
    """Refuse a base model of which the device reads a text in other tokens than the training.

    :raises UserError: with the text, and the first tokens that differ
    """
    for text in texts:
        _compare(device(text), tokenizer, text, tokens.encode(tokenizer, text))


def _compare(read: list[int], tokenizer: "PreTrainedTokenizerBase", text: str, trained: list[int]) -> None:
    if trained != read:
        raise UserError(_difference(tokenizer, text, trained, read))


def _difference(tokenizer: "PreTrainedTokenizerBase", text: str, trained: list[int], read: list[int]) -> str:
    pairs = itertools.zip_longest(trained, read)
    place, (wanted, actual) = next((at, pair) for at, pair in enumerate(pairs) if pair[0] != pair[1])
    before = len(tokenizer.decode(trained[:place]))

    def shown(token: int | None) -> str:
        return "no token" if token is None else f"the token {token} ({tokenizer.decode([token])!r})"

    return (
        f"the device reads {text[:SHOWN]!r} in {len(read)} tokens, other ones than the {len(trained)} of the training: "
        f"at {text[max(before - CONTEXT, 0) : before + CONTEXT]!r} onnxruntime-genai has {shown(actual)} where "
        f"transformers has {shown(wanted)}; choose a base model whose tokenizer both read alike"
    )
