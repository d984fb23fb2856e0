"""Text becomes tokens: the same ones in training, in calibration, in evaluation and on the device.

The literal text of a template may hold control tokens, such as <|im_end|>. What stands in its fields is a person's
text, of which no tokenizer may make one. The device's cannot be told to read it as plain text, so that it is refused,
or escaped: with a space of no width inside it, the name of a control token is text to every tokenizer.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, overload

from press.data.examples import Example

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
ESCAPE = "\u200b"
HALF = re.compile("[\ud800-\udfff]")


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Return the token ids of a text as it stands, without tokens that a tokenizer would add."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_all(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text as `encode` has them; many texts at once are read by all cores."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


class Spans(Sequence[Span]):
    """What characters each token of a text stands for, from the first to behind the last.

    Of hundreds of tokens, few are asked for, and pairs of them all take Python long to make. No token ends before one
    that stands before it.
    """

    def __init__(self, encoding: "Encoding") -> None:
        self._encoding = encoding

    def __len__(self) -> int:
        return len(self._encoding)

    @overload
    def __getitem__(self, index: int) -> Span: ...

    @overload
    def __getitem__(self, index: slice) -> list[Span]: ...

    def __getitem__(self, index: int | slice) -> Span | list[Span]:
        if isinstance(index, slice):
            return self._encoding.offsets[index]
        span = self._encoding.token_to_chars(index)
        if span is None:
            raise IndexError(index)
        return span


def offsets(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[tuple[list[int], Spans]]:
    """Return the token ids of each text, and what characters each token stands for.

    Many texts at once are read by all cores.
    """
    # So that the tokenizer below cuts and pads nothing; what transformers makes of its answers takes as long again.
    tokenizer("")
    encoded = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [(each.ids, Spans(each)) for each in encoded]


def example(tokenizer: "PreTrainedTokenizerBase", prompt: str, completion: str) -> Example:
    """Tokenize prompt and completion as one text and mark where the prompt's tokens end."""
    ((ids, spans),) = offsets(tokenizer, [prompt + completion])
    return Example(prompt=prompt, completion=completion, input_ids=ids, prompt_tokens=before(spans, len(prompt)))


def before(spans: Sequence[Span], place: int) -> int:
    """Return how many tokens end at a character or before it."""
    return bisect_right(spans, place, key=itemgetter(1))


def start(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the token that the tokenizer puts before every text, in a list; not all models have such a token."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("a")["input_ids"][0] == bos else []


def control(tokenizer: "PreTrainedTokenizerBase") -> dict[int, str]:
    """Map the ids of the control tokens to what they are called."""
    return {token: each.content for token, each in tokenizer.added_tokens_decoder.items() if each.special}


def escaped(text: str, names: Iterable[str]) -> str:
    """Return a text with a space of no width behind the first character of each control token's name."""
    pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(pattern, lambda match: match[0][0] + ESCAPE + match[0][1:], text) if pattern else text


def unreadable(text: str) -> str | None:
    """Return what a text has that no tokenizer, or not that of every device, can read, or None."""
    if HALF.search(text):
        return "half of a surrogate pair, which is no character"
    return "the character U+0000, at which a device cuts a text off" if "\0" in text else None


def complaint(text: str, tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """Return what keeps a person's text from being read as it stands, or None."""
    return Reader(tokenizer).complaint(text)


class Reader:
    """Tells of many texts what keeps them from being read as they stand."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._control = control(tokenizer)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._normalizer = backend and backend.normalizer
        # Millions of texts are read: only one that has a control token's name can have the token.
        names = {form for name in self._control.values() for form in (name, self._normalized(name)) if form}
        self._named = re.compile("|".join(map(re.escape, sorted(names)))) if backend and names else None

    def complaint(self, text: str) -> str | None:
        """Return what keeps a person's text from being read as it stands, or None."""
        if wrong := unreadable(text):
            return f"has {wrong}"
        if self._may_have_control(text):
            for token in encode(self._tokenizer, text):
                if token in self._control:
                    name = self._control[token]
                    return f"has {name!r}, which the base model reads as a control token: write it otherwise"
        return None

    def escaped(self, value: Any) -> Any:
        """Return a text, or what lists and objects have of them, with the names of control tokens escaped."""
        if isinstance(value, str):
            return escaped(value, self._control.values()) if self._may_have_control(value) else value
        if isinstance(value, dict):
            return {name: self.escaped(each) for name, each in value.items()}
        return [self.escaped(each) for each in value] if isinstance(value, list) else value

    def tail(self, text: str) -> str:
        """Return the end of a text from its last control token on, before which no token depends on what follows."""
        places = [match.start() for match in self._named.finditer(text)] if self._named and not self._normalizer else []
        return text[places[-1] :] if places else text

    def _may_have_control(self, text: str) -> bool:
        if self._named is None:
            return bool(self._control)
        return bool(self._named.search(text) or self._named.search(self._normalized(text)))

    def _normalized(self, text: str) -> str:
        return self._normalizer.normalize_str(text) if self._normalizer else ""
