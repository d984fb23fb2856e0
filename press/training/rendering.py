"""What a line of a data set says becomes an example: in a template, as tokens; or what is wrong with it is said."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from press.core.errors import UserError
from press.data import chats, formats, strict_json, templates, tokens
from press.data.examples import Example
from press.data.formats import Chat
from press.data.templates import RESPONSE
from press.model import device_tokenizer
from press.params import schema
from press.training import stand_ins

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What a record says, by its format.
Said = Chat | dict[str, str] | str

MERGED = (
    "the template's text before {response} merges with the answer into one token, so that the model would be given "
    "another prompt than it was trained on: end that text with a line break or a special token, not with a space"
)
COMPOSED = "the template's text and the fields beside it make a control token together: part them, as by a line break"
REWRITTEN = (
    "a chat that the chat template begins otherwise when it goes on, so that the model would be given another prompt "
    "than it was trained on"
)
ENDLESS = (
    "the chat template ends no answer with the base model's end-of-turn token, {marks}, so that an answer would never "
    "end: give the adapter a template of its own"
)
# Stand for a question and an answer where a chat template is asked for its own text.
QUESTION, ANSWER = "olive0press0question", "olive0press0answer"
# The field of the question in a template that comes of a chat template.
ASKED = "prompt"


class Rendered(NamedTuple):
    """The text of an example.

    :param given: up to where the answer begins
    :param written: the rest
    :param turns: characters at which the earlier answers begin that are learned, too
    """

    given: str
    written: str
    turns: tuple[int, ...] = ()


class Renderer(ABC):
    """What makes examples of what lines say, or says what is wrong with a line.

    :cvar no_room: what is wrong where there is no room for an answer
    """

    no_room = "and none of them is left for its answer"

    def __init__(self, adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase", eos_ids: list[int]) -> None:
        self._adapter = adapter
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._control = tokens.control(tokenizer)
        self._reader = tokens.Reader(tokenizer)

    @abstractmethod
    def question_template(self, system: str = "") -> str:
        """Return the template of one question and its answer, by which the adapter is asked later on.

        :param system: what the system says in all of the examples
        """

    def turn_template(self, system: str = "") -> str:
        """Return the template of each further question with its answer, behind the first answer; "" if there is none.

        :param system: what the system says in all of the examples
        """
        return ""

    @abstractmethod
    def begin(self, said: Sequence[Said]) -> Callable[[], Sequence[Rendered | ValueError]]:
        """Begin to make the text of each example; return what waits for it, and for what is wrong with the others."""

    @abstractmethod
    def _made(self, said: Said, text: Rendered, ids: list[int], spans: Sequence[tokens.Span]) -> Example:
        """Return an example of its tokens, without what is behind its end."""

    def examples(self, said: Sequence[Said], texts: Sequence[Rendered | ValueError]) -> list[Example | ValueError]:
        """Tokenize lines, each by itself; of one that does not fit, return what is wrong.

        :param texts: of the lines, as what `begin` returns says
        :raises UserError: if the template fits no line
        """
        outcomes: list[Example | ValueError] = []
        fitting: dict[int, Rendered] = {}
        for index, text in enumerate(texts):
            if isinstance(text, ValueError):
                outcomes.append(text)
            else:
                fitting[index] = text
                outcomes.append(ValueError())
        encoded = tokens.offsets(self._tokenizer, [text.given + text.written for text in fitting.values()])
        tails = [self._reader.tail(text.given) for text in fitting.values()]
        # Most prompts end alike.
        own = dict(zip(set(tails), tokens.encode_all(self._tokenizer, list(set(tails))), strict=True))
        for (index, text), (ids, spans), tail in zip(fitting.items(), encoded, tails, strict=True):
            try:
                made = self._made(said[index], text, ids, spans)
                count = made["prompt_tokens"]
                if ids[max(count - len(own[tail]), 0) : count] != own[tail]:
                    raise ValueError(MERGED)
                outcomes[index] = made
            except ValueError as error:
                outcomes[index] = error
        return outcomes

    def example(self, said: Said) -> Example:
        """Tokenize a line.

        :raises ValueError: with what is wrong with it
        :raises UserError: if the template fits no line
        """
        (outcome,) = self.examples([said], self.begin([said])())
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    def complaint(self, said: Said) -> str | None:
        """Return what keeps the texts of a line from being read as they stand, or None."""
        if isinstance(said, str):
            named = [("the text", said)]
        elif isinstance(said, dict):
            named = [(f"field {name!r}", text) for name, text in said.items()]
        else:
            named = [
                (f"message {number}", text)
                for number, message in enumerate(said.messages, start=1)
                for text in strict_json.texts(message)
            ]
            named += [("a tool", text) for text in strict_json.texts(said.tools)]
        # Of millions of lines, nearly all have nothing wrong in any text.
        if not self._reader.complaint("\n".join(text for _, text in named)):
            return None
        for name, text in named:
            if wrong := self._reader.complaint(text):
                return f"{name} {wrong}"
        return None

    def begin_on_device(
        self, device: device_tokenizer.Device, said: Sequence[Said]
    ) -> Callable[[], Sequence[str | None]] | None:
        """Let the device render the prompts of chats, as chats.begin does; None if it renders none."""
        return None

    def excess(self, example: Example) -> str | None:
        """Return in words by how much an example is too long, or None."""
        length, limit = len(example["input_ids"]), self._adapter.max_seq_len
        return f"{length} tokens, more than max_seq_len {limit}" if length > limit else None

    def has_room(self, example: Example) -> bool:
        """Return whether an example that is cut keeps a token of the answer."""
        return example["prompt_tokens"] < self._adapter.max_seq_len

    def truncate(self, example: Example, excess: str) -> None:
        """Cut an example's answer, which then has no end that it did not get to: nobody is to learn to stop there."""
        if self._adapter.response_schema is not None:
            raise ValueError(f"{excess}, and an answer that is cut satisfies no response_schema: choose too_long skip")
        example["input_ids"] = example["input_ids"][: self._adapter.max_seq_len]

    def _count_control(self, ids: Sequence[int]) -> int:
        return sum(map(self._control.__contains__, ids))

    def _marks(self) -> str:
        return " or ".join(repr(mark) for mark in self._tokenizer.convert_ids_to_tokens(self._eos_ids)) or "(none)"

    def _end(self) -> str:
        """Return the control token that ends an answer."""
        if not self._eos_ids:
            raise UserError("the base model has no token that ends an answer: choose another one")
        return str(self._tokenizer.convert_ids_to_tokens(self._eos_ids[0]))


class OwnTemplate(Renderer):
    """An adapter's own template, whose fields a line fills."""

    def __init__(self, adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase", eos_ids: list[int]) -> None:
        super().__init__(adapter, tokenizer, eos_ids)
        self._start = _start(tokenizer)
        literals = [tokens.encode(tokenizer, text) for text in templates.literals(adapter.template)]
        self._control_tokens = sum(self._count_control(ids) for ids in literals)

    def question_template(self, system: str = "") -> str:
        return self._adapter.template

    def begin(self, said: Sequence[Said]) -> Callable[[], Sequence[Rendered | ValueError]]:
        return lambda: [
            Rendered(*templates.render(self._adapter.template, each)) for each in said if isinstance(each, dict)
        ]

    def _made(self, said: Said, text: Rendered, ids: list[int], spans: Sequence[tokens.Span]) -> Example:
        if ids[-1] not in self._eos_ids:
            raise UserError(
                f"the template ends with {self._adapter.template[-12:]!r}, so that an answer would never end: it must "
                f"end with the base model's end-of-turn token, {self._marks()}"
            )
        if ids[: len(self._start)] != self._start:
            raise UserError(
                f"the template begins with {self._adapter.template[:12]!r}, but the base model knows no text that does "
                f"not begin with {self._tokenizer.bos_token!r}: begin the template with it"
            )
        if self._count_control(ids) != self._control_tokens:
            raise ValueError(COMPOSED)
        prompt_tokens = tokens.before(spans, len(text.given))
        return Example(prompt=text.given, completion=text.written, input_ids=ids, prompt_tokens=prompt_tokens)


class ChatTemplate(Renderer):
    """The base model's chat template, or a plain one where it has none."""

    def __init__(self, adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase", eos_ids: list[int]) -> None:
        super().__init__(adapter, tokenizer, eos_ids)
        # None: the model's own.
        self._plain = chats.plain(tokenizer, "" if tokenizer.chat_template else self._end())
        self._counts: dict[tuple, int] = {}

    def question_template(self, system: str = "") -> str:
        try:
            text = self._conversation(system, 1)
        except ValueError as error:
            raise UserError(f"the base model's chat template takes no question and answer: {error}") from error
        if text.count(QUESTION) != 1 or text.count(ANSWER) != 1:
            raise UserError("the base model's chat template does not give a question and its answer once each")
        return _as_template(text, 1)

    def turn_template(self, system: str = "") -> str:
        try:
            one, two, three = (self._conversation(system, count) for count in (1, 2, 3))
        except ValueError:
            return ""
        if not two.startswith(one) or not three.startswith(two):
            return ""
        second, third = _as_template(two.removeprefix(one), 2), _as_template(three.removeprefix(two), 3)
        fits = second == third and templates.fields(second) == [ASKED, RESPONSE]
        return second if fits else ""

    def _conversation(self, system: str, count: int) -> str:
        """Return the text of so many questions and answers."""
        spoken = [{"role": "system", "content": system}] * bool(system)
        for number in range(1, count + 1):
            spoken.append({"role": "user", "content": f"{QUESTION}{number}"})
            spoken.append({"role": formats.ASSISTANT, "content": f"{ANSWER}{number}"})
        example = self.example(Chat(spoken))
        given, written, last = example["prompt"], example["completion"], f"{ANSWER}{count}"
        if chats.THOUGHT in written.partition(last)[0]:
            # The model itself writes its thoughts, or that there are none, as it is trained to.
            written = last + written.partition(last)[2]
        return given + written

    def begin_on_device(
        self, device: device_tokenizer.Device, said: Sequence[Said]
    ) -> Callable[[], Sequence[str | None]] | None:
        asked = [Chat(each.messages[:-1], each.tools) for each in said if isinstance(each, Chat)]
        return device.begin(asked, self._plain)

    def begin(self, said: Sequence[Said]) -> Callable[[], Sequence[Rendered | ValueError]]:
        spoken = [each for each in said if isinstance(each, Chat)]
        places = [self._answers(each) for each in spoken]
        asked = []
        for chat, answers in zip(spoken, places, strict=True):
            asked.append(chats.Asked(chat.messages, chat.tools))
            asked += [chats.Asked(chat.messages[:place], chat.tools, asks=True) for place in answers]
        rendered = chats.begin(self._tokenizer, asked, self._plain)

        def wait() -> list[Rendered | ValueError]:
            texts = iter(rendered())
            return [self._parted(next(texts), list(itertools.islice(texts, len(answers)))) for answers in places]

        return wait

    def _answers(self, said: Chat) -> list[int]:
        """Return the places of the answers that are learned."""
        places = [place for place, each in enumerate(said.messages) if each["role"] == formats.ASSISTANT]
        return places[-1:] if self._adapter.turns == "last" else places

    def _parted(self, whole: str | ValueError, given: Sequence[str | ValueError]) -> Rendered | ValueError:
        """Return a chat's text in its parts, by the texts up to where each of its answers begins."""
        starts = []
        if isinstance(whole, ValueError):
            return whole
        for prompt in given:
            if isinstance(prompt, ValueError):
                return prompt
            if not whole.startswith(prompt):
                return ValueError(REWRITTEN + ("" if prompt is given[-1] else ": choose turns last"))
            starts.append(len(prompt))
        *earlier, last = starts
        return Rendered(whole[:last], whole[last:], tuple(earlier))

    def _made(self, said: Said, text: Rendered, ids: list[int], spans: Sequence[tokens.Span]) -> Example:
        assert isinstance(said, Chat)
        if self._count_control(ids) != self._expected(said):
            raise ValueError(COMPOSED)
        starts = [tokens.before(spans, place) for place in (*text.turns, len(text.given))]
        ends = [self._turn_end(ids, start) for start in starts]
        if any(end > start for end, start in zip(ends, starts[1:], strict=False)):
            raise UserError(ENDLESS.format(marks=self._marks()))
        for place, start in zip(text.turns, starts, strict=False):
            if spans[start][0] != place:
                raise ValueError(MERGED)
        *learned, (prompt_tokens, end) = zip(starts, ends, strict=True)
        written = text.written[: spans[end - 1][1] - len(text.given)]
        made = Example(prompt=text.given, completion=written, input_ids=ids[:end], prompt_tokens=prompt_tokens)
        if learned:
            made["learned"] = learned
        return made

    def _turn_end(self, ids: list[int], start: int) -> int:
        """Return the place behind the token that ends the turn which begins at a place: no text of a line has one."""
        for place in range(start, len(ids)):
            if ids[place] in self._eos_ids:
                return place + 1
        raise UserError(ENDLESS.format(marks=self._marks()))

    def _expected(self, said: Chat) -> int:
        """Return how many control tokens the chat template itself has in a chat of this shape."""
        # Who calls a tool, and which, may decide.
        if said.tools or any("tool_calls" in each for each in said.messages):
            return self._own_control(said)
        shape = tuple((each["role"], *sorted(each)) for each in said.messages)
        if shape not in self._counts:
            self._counts[shape] = self._own_control(said)
        return self._counts[shape]

    def _own_control(self, said: Chat) -> int:
        bare = stand_ins.of(said)
        text = chats.text(self._tokenizer, bare.messages, bare.tools, self._plain)
        if unsaid := stand_ins.complaint(bare, text):
            raise ValueError(unsaid)
        return self._count_control(tokens.encode(self._tokenizer, text))


class Plain(Renderer):
    """Plain text, all of which is learned, with the tokens that begin and end a text."""

    def __init__(self, adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase", eos_ids: list[int]) -> None:
        super().__init__(adapter, tokenizer, eos_ids)
        self._start = str(tokenizer.bos_token) if tokens.start(tokenizer) else ""

    def question_template(self, system: str = "") -> str:
        start, end = (mark.replace("{", "{{").replace("}", "}}") for mark in (self._start, self._end()))
        return f"{start}{{prompt}}{{{RESPONSE}}}{end}"

    def begin(self, said: Sequence[Said]) -> Callable[[], Sequence[Rendered | ValueError]]:
        end = self._end()
        return lambda: [Rendered(self._start, each + end) for each in said if isinstance(each, str)]

    def _made(self, said: Said, text: Rendered, ids: list[int], spans: Sequence[tokens.Span]) -> Example:
        if self._count_control(ids) != bool(self._start) + 1:
            raise ValueError(COMPOSED)
        return Example(prompt=text.given, completion=text.written, input_ids=ids, prompt_tokens=int(bool(self._start)))


def renderer(
    reading: formats.Reading, adapter: schema.Adapter, tokenizer: "PreTrainedTokenizerBase", eos_ids: list[int]
) -> Renderer:
    """Return what makes examples of lines that are read so."""
    kind = Plain if reading.name == "text" else OwnTemplate if reading.template else ChatTemplate
    return kind(adapter, tokenizer, eos_ids)


def _as_template(text: str, number: int) -> str:
    """Return a text that has a question and its answer by their number, with the fields in their places."""
    escaped = text.replace("{", "{{").replace("}", "}}")
    return escaped.replace(f"{QUESTION}{number}", f"{{{ASKED}}}").replace(f"{ANSWER}{number}", f"{{{RESPONSE}}}")


def _start(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the tokens with which every text begins that the base model knows.

    Some tokenizers put a token before plain text that no chat begins with: where there is a chat template that takes a
    question, it decides.
    """
    start = tokens.start(tokenizer)
    if not start or not tokenizer.chat_template:
        return start
    try:
        chat = chats.text(tokenizer, [{"role": "user", "content": "a"}])
    except ValueError:
        return start
    return start if tokens.encode(tokenizer, chat)[: len(start)] == start else []
