"""Turn an adapter's data set into examples: validated, tokenized, and split into a training and a held-out set."""

import heapq
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from press.core.errors import UserError
from press.data import answers, examples, formats, nearness, preferences, records, strict_json, templates, tokens
from press.data.examples import Example
from press.data.formats import Chat
from press.data.preferences import Pair
from press.model import device_tokenizer
from press.params import objectives, schema
from press.training import asking, likeness
from press.training.pairs import PairRenderer
from press.training.rendering import Rendered, Renderer, Said, renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Mistakes that are told at once, and lines of each.
SHOWN_ERRORS = 10
SHOWN_LINES = 5
# Lines that are tokenized at once, by all cores.
BATCH = 1024


class Sink(Protocol):
    """What examples are put into: a list, or a file."""

    def append(self, value: Example, /) -> object: ...

    def __len__(self) -> int: ...


@dataclass(slots=True)
class Reject:
    """A line that is left out, or that stops the stage.

    :param file: that has it, where the data set is a folder
    """

    line: int
    reason: str
    file: str = ""


@dataclass
class Prepared:
    """A data set after validation: examples by split, and what was left out or changed.

    :param duplicates: lines that say what an earlier one says
    :param near_duplicates: lines whose prompt differs from an earlier one's in case, Unicode form, spaces or
        punctuation alone, and that are in the same split as that one
    :param trained_samples: samples that are nearly the same as a text of a prompt that is trained on
    :param truncated: examples whose answer was cut to max_seq_len
    :param set_aside: held-out lines that are more than heldout_examples
    :param rendered_otherwise: examples whose prompt the device's own chat template would not give
    :param lengths: how many examples have so many tokens
    :param template: by which the adapter is asked one question
    :param turn: by which it is asked each further one, behind the answers before it; "" if it is asked single questions
    :param conversations: examples with several questions
    :param guessed: a sentence about what was guessed
    """

    train: Sink = field(default_factory=list[Example])
    heldout: Sink = field(default_factory=list[Example])
    rejects: list[Reject] = field(default_factory=list)
    duplicates: int = 0
    near_duplicates: int = 0
    trained_samples: set[str] = field(default_factory=set)
    truncated: int = 0
    set_aside: int = 0
    rendered_otherwise: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    template: str = ""
    turn: str = ""
    conversations: int = 0
    guessed: str = ""


class Line(NamedTuple):
    """A line that fits the format."""

    at: Reject
    said: Said | Pair


class Batch(NamedTuple):
    """Lines that are being rendered.

    :param rendered: waits for their texts
    :param on_device: waits for the prompts that the device makes of them, if it makes any
    """

    lines: list[Line]
    rendered: Callable[[], Sequence[Rendered | ValueError]]
    on_device: Callable[[], Sequence[str | None]] | None


def prepare(
    adapter: schema.Adapter,
    tokenizer: "PreTrainedTokenizerBase",
    eos_ids: list[int],
    result: Prepared | None = None,
    device: device_tokenizer.Device | None = None,
) -> Prepared:
    """Turn an adapter's data set into tokenized examples.

    A line is held out by the hash of its own content, so that adding a line behind it does not move it. Where prompts
    are nearly the same, the first one decides for all: none is trained on that another is held out for.

    :param result: with what the examples are put into; lists, if it is not given
    :param device: the tokenizer of the device, which has to give the same tokens
    :raises UserError: naming the file and the lines that are wrong, or if a split would be empty
    """
    reader = tokens.Reader(tokenizer)
    for sample in asking.as_read(adapter, tokenizer).samples:
        if wrong := reader.complaint(sample):
            raise UserError(f"the sample {json.dumps(sample)} {wrong}")
    return _Preparation(adapter, tokenizer, eos_ids, result or Prepared(), device).run()


def look(adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase", eos_ids: list[int], lines: int) -> Prepared:
    """Return what becomes of the first lines of a data set; those that are wrong are among the rejects.

    :param lines: at most so many are read
    """
    preparation = _Preparation(adapter, tokenizer, eos_ids, Prepared(), None)
    return preparation.look(lines)


class _Preparation:
    """A data set on its way into examples, a batch of lines at a time."""

    def __init__(
        self,
        adapter: schema.Adapter,
        tokenizer: "PreTrainedTokenizerBase",
        eos_ids: list[int],
        result: Prepared,
        device: device_tokenizer.Device | None,
    ) -> None:
        self._adapter = adapter
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._device = device
        self._reader = tokens.Reader(tokenizer)
        self._path = Path(adapter.data)
        self._result = result
        self._unit = "line"
        self._errors: list[Reject] = []
        self._reading: formats.Reading | None = None
        # A Renderer, or a PairRenderer where lines are pairs.
        self._renderer: Any = None
        # By the digest of a prompt (of a pair, with both answers): where it stands first, and the digest of its answer.
        self._seen: dict[bytes, tuple[Reject, bytes]] = {}
        # By the digest of what a prompt has in common with those nearly the same: whether it is held out.
        self._sides: dict[bytes, bool] = {}
        # Those held out, the one with the largest hash first, each with its place.
        self._heldout: list[tuple[int, int, Example]] = []
        # The samples, by what each has in common with texts nearly the same.
        self._samples = {nearness.nearly(sample): sample for sample in asking.as_read(adapter, tokenizer).samples}
        # What the system says in the examples, as far as that is one and the same thing.
        self._systems: set[str] = set()

    def run(self) -> Prepared:
        self._read(None)
        self._raise()
        result = self._result
        if not result.train or not result.heldout:
            long = len(result.rejects)
            raise UserError(
                f"{self._path} leaves {len(result.train)} examples to train on and {len(result.heldout)} held out"
                f"{f', and {long} out, which are too long' if long else ''}; both must be at least 1: add lines or "
                f"change {'max_seq_len or ' if long else ''}heldout"
            )
        if self._renderer:
            system = self._systems if len(self._systems) == 1 else ()
            result.template = self._renderer.question_template(*system)
            if result.conversations:
                result.turn = self._renderer.turn_template(*system)
        return result

    def look(self, lines: int) -> Prepared:
        self._read(lines)
        self._result.rejects = sorted(self._result.rejects + self._errors, key=_place)
        return self._result

    def _read(self, most: int | None) -> None:
        lines = self._lines(most)
        batch, compared = self._begin(lines), _nothing
        while batch:
            texts = batch.rendered()
            # The chat templates work in processes of their own, one batch ahead.
            following = self._begin(lines)
            assert self._renderer
            made = self._renderer.examples([line.said for line in batch.lines], texts)
            # The device reads a batch while the next one is made.
            compared()
            compared = self._check_device(batch, made)
            for line, example in zip(batch.lines, made, strict=True):
                self._take(line, example)
            batch = following
        compared()
        for _, _, example in sorted(self._heldout, key=lambda held: held[1]):
            self._result.lengths[examples.length(example)] += 1
            self._result.heldout.append(example)

    def _lines(self, most: int | None) -> Iterator[Line]:
        """Yield the lines that say something new; note down those that are wrong.

        :param most: lines that are read; None for all
        """
        count = 0
        for file, unit, file_records in records.read(self._path):
            self._unit = unit
            where = "" if file == self._path else file.relative_to(self._path).as_posix()
            for record in file_records:
                if count == most:
                    return
                count += 1
                at = Reject(record.number, record.wrong, where)
                try:
                    said = self._said(record)
                    if self._is_new(at, said):
                        yield Line(at, said)
                except ValueError as error:
                    at.reason = str(error)
                    self._errors.append(at)
        if not count:
            names = templates.names(self._adapter.template) or formats.NEEDED[self._adapter.format or "prompt"]
            if objectives.learns_from_pairs(self._adapter.training):
                names = formats.NEEDED[formats.PREFERENCE]
            raise UserError(f"{self._path} is empty: it needs {self._unit}s with {', '.join(names)}")

    def _said(self, record: records.Record) -> Said | Pair:
        """Return what a record says, or raise ValueError with what is wrong."""
        if record.fields is None:
            raise ValueError(record.wrong)
        reading = self._reading or self._begun(record.fields)
        fields = asking.as_model_reads(record.fields, self._adapter, self._reader)
        said = reading.pair(fields) if isinstance(reading, preferences.Reading) else reading.said(fields)
        if self._adapter.response_schema is not None:
            wrong = answers.complaint(likeness.answer(said), self._adapter.response_schema)
            if wrong:
                raise ValueError(f"the response {wrong}" if wrong.startswith("breaks") else f"the response is {wrong}")
        if self._renderer and (wrong := self._renderer.complaint(said)):
            raise ValueError(wrong)
        return said

    def _begun(self, first: Mapping[str, Any]) -> formats.Reading:
        """Settle how records are read, by the first one if the parameters do not say it."""
        adapter, names = self._adapter, templates.names(self._adapter.template)
        if objectives.learns_from_pairs(adapter.training):
            reading = preferences.Reading(names, adapter.fields)
        elif adapter.format:
            reading = formats.Reading(adapter.format, names, adapter.fields)
        else:
            reading = formats.guess(first, names, adapter.fields)
            own = ", ".join(adapter.fields.get(name, name) for name in reading.needed)
            # A template of the adapter's own leaves nothing to guess where the lines have its fields.
            if not (names and reading.name == "prompt"):
                self._result.guessed = f"{self._path} is read as format {reading.name}, by its fields {own}"
            if reading.name == "text" and adapter.response_schema is not None:
                raise UserError(
                    f"{self._path} is read as format text, which has no answers: let response_schema be null"
                )
        if wrong := reading.ambiguity():
            raise UserError(f"{self._path} is read as format {reading.name}, but {wrong}")
        self._renderer = self._renderer_of(reading)
        # Whether there can be samples is known before the lines are read.
        asking.render_samples(adapter, self._renderer.question_template())
        self._reading = reading
        return reading

    def _renderer_of(self, reading: formats.Reading) -> Renderer | PairRenderer:
        if isinstance(reading, preferences.Reading):
            last = self._adapter.model_copy(update={"turns": "last"})
            return PairRenderer(renderer(reading, last, self._tokenizer, self._eos_ids))
        return renderer(reading, self._adapter, self._tokenizer, self._eos_ids)

    def _is_new(self, at: Reject, said: Said | Pair) -> bool:
        """Return whether no earlier line says the same; refuse the same prompt with another answer.

        A prompt may have several pairs of answers, but not one pair both ways round.
        """
        answer, asked = likeness.digest(likeness.answer(said)), likeness.asked(said)
        if isinstance(said, Pair):
            asked = [asked, *sorted(map(likeness.answer, said))]
        first, known = self._seen.setdefault(likeness.digest(asked), (at, answer))
        if known != answer:
            file = f" of {first.file}" if first.file != at.file else ""
            how = "chosen and rejected exchanged" if isinstance(said, Pair) else "another answer"
            raise ValueError(f"the same prompt as {self._unit} {first.line}{file} with {how}")
        self._result.duplicates += first is not at
        return first is at

    def _begin(self, lines: Iterator[Line]) -> Batch | None:
        """Let the next lines be rendered, if there are any."""
        next_lines = list(itertools.islice(lines, BATCH))
        if not next_lines:
            return None
        assert self._renderer
        said = [line.said for line in next_lines]
        on_device = self._renderer.begin_on_device(self._device, said) if self._device else None
        return Batch(next_lines, self._renderer.begin(said), on_device)

    def _take(self, line: Line, made: Example | ValueError) -> None:
        """Put an example where it belongs, or note down what is wrong with it."""
        try:
            if isinstance(made, ValueError):
                raise made
            if self._fits(line.at, made):
                self._put(line.said, made)
        except ValueError as error:
            line.at.reason = str(error)
            self._errors.append(line.at)

    def _check_device(self, batch: Batch, made: list[Example | ValueError]) -> Callable[[], None]:
        """Count what the device renders otherwise; return what refuses a base model whose tokens it reads otherwise."""
        if not self._device:
            return _nothing
        prompts = batch.on_device() if batch.on_device else itertools.repeat(None)
        read: list[tuple[str, list[int]]] = []
        for example, prompt in zip(made, prompts, strict=False):
            if not isinstance(example, ValueError):
                read += [(side["prompt"] + side["completion"], side["input_ids"]) for side in examples.sides(example)]
                read.append((example["prompt"], example["input_ids"][: example["prompt_tokens"]]))
                self._result.rendered_otherwise += batch.on_device is not None and prompt != example["prompt"]
        return self._device.begin_comparing(read)

    def _fits(self, at: Reject, example: Example) -> bool:
        """Return whether an example has at most as many tokens as it may have, cut if the parameters say so."""
        assert self._renderer
        excess = self._renderer.excess(example)
        if not excess:
            return True
        if self._adapter.too_long == "error":
            raise ValueError(excess)
        if self._adapter.too_long == "truncate":
            if self._renderer.has_room(example):
                self._renderer.truncate(example, excess)
                self._result.truncated += 1
                return True
            excess += f", {self._renderer.no_room}"
        at.reason = excess
        self._result.rejects.append(at)
        return False

    def _put(self, said: Said | Pair, example: Example) -> None:
        chat = said.chosen if isinstance(said, Pair) else said
        if isinstance(chat, Chat):
            if len(self._systems) < 2:
                self._systems.add(chat.messages[0]["content"] if chat.messages[0]["role"] == "system" else "")
            self._result.conversations += sum(each["role"] == "user" for each in chat.messages) > 1
        number = likeness.number(said)
        nearly = [nearness.nearly(text) for text in strict_json.texts(likeness.asked(said))]
        digest = likeness.digest(nearly)
        self._result.near_duplicates += digest in self._sides
        if not self._sides.setdefault(digest, number < self._adapter.heldout * 2**64):
            self._result.trained_samples |= {self._samples[text] for text in nearly if text in self._samples}
            self._result.lengths[examples.length(example)] += 1
            self._result.train.append(example)
            return
        # Of more than are wanted, those with the smallest hashes stay, whatever the order of the lines.
        heapq.heappush(self._heldout, (-number, len(self._heldout) + self._result.set_aside, example))
        if len(self._heldout) > self._adapter.heldout_examples:
            heapq.heappop(self._heldout)
            self._result.set_aside += 1

    def _raise(self) -> None:
        if self._errors:
            lines: dict[tuple[str, str], list[int]] = {}
            for error in sorted(self._errors, key=_place):
                lines.setdefault((error.file, error.reason), []).append(error.line)
            shown = [
                f"{self._path / file} {_numbered(self._unit, of)}: {reason}" for (file, reason), of in lines.items()
            ]
            more = [f"and {len(shown) - SHOWN_ERRORS} other mistakes"] if len(shown) > SHOWN_ERRORS else []
            raise UserError("\n".join(shown[:SHOWN_ERRORS] + more))


def _nothing() -> None:
    """Wait for nothing."""


def _place(reject: Reject) -> tuple[str, int]:
    return reject.file, reject.line


def _numbered(unit: str, lines: Iterable[int]) -> str:
    """Return lines in words, the first ones by their numbers."""
    numbers = list(lines)
    shown = ", ".join(map(str, numbers[:SHOWN_LINES]))
    more = f" and {len(numbers) - SHOWN_LINES} more" if len(numbers) > SHOWN_LINES else ""
    return f"{unit if len(numbers) == 1 else f'{unit}s'} {shown}{more}"
