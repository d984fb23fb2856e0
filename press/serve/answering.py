"""A verified package in memory, and its answers as turns."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from press.core import paths
from press.core.errors import UserError
from press.data.chats import THINK
from press.model import packaged
from press.serve import adapters, chances, decoders, tools, wire
from press.serve.adapters import Named, Shelf
from press.serve.apart import SCHEMA, TEMPLATE, Apart, ApartError
from press.serve.chances import Chance
from press.serve.decoders import Asked, Decoder, Generator
from press.serve.errors import RefusedError
from press.serve.generators import Generators
from press.serve.prompts import Prompts, special_tokens
from press.serve.reasoning import parted
from press.serve.stops import before

# What a release has besides the package's own files.
BOMS = ("bom.cdx.json", "bom.spdx3.json")
BESIDE = (paths.CARD, *BOMS, paths.GATES, paths.METRICS, paths.PROVENANCE, paths.SIGNATURE)
BARE = "base"
# Tokens of a prompt that are read in one turn: the runtime holds Python's lock meanwhile, and the others wait.
PART = 128
# What a package's maker wrote may take longer to compile than what a client sends.
SECONDS, CLIENT_SECONDS = 20, 5
# Clients' schemas that are known to compile.
KNOWN = 256
# Tokens at the end of a prompt among which the mark is that begins thoughts.
MARK = 16
# Tokens that generators between two answers have room for together.
KEPT = 8192
# What the runtime takes for the least share of top_p.
LEAST_TOP_P = packaged.GENERATION["top_p"][1]


@dataclass
class Answer:
    """One answer: what it is made from, and how far it has come."""

    prompt: list[int]
    named: Named | None
    settings: Mapping[str, Any]
    schema: str | None
    most: int
    seed: int | None
    # How many of the likeliest tokens are told beside each one; None if nothing is told of them.
    tops: int | None = None
    written: int = 0
    # Tokens of the prompt that were read for an earlier answer.
    reused: int = 0
    finish_reason: Literal["stop", "length"] = "stop"
    chances: list[Chance] = field(default_factory=list)


@dataclass(frozen=True)
class Key:
    """What generators have in common that can go on with each other's prompts."""

    # One version of it, and not what it says.
    named: Named | None
    options: tuple[tuple[str, Any], ...]


class Package:
    """A package whose files were verified before any of them was loaded.

    :param folder: a package, or a release
    :param threads: threads of a product of matrices, None for what the runtime chooses
    :param context: tokens that a prompt and its answer may have, None for what the model can take
    :param kept: tokens that generators between two answers may have room for together
    :param shelf: folder from which adapters may be loaded later
    :raises UserError: if it is damaged, names code, or cannot be loaded
    """

    def __init__(
        self,
        folder: Path,
        threads: int | None = None,
        context: int | None = None,
        kept: int = KEPT,
        shelf: Path | None = None,
    ) -> None:
        self._folder = folder
        self._shelf = Shelf(shelf) if shelf else None
        self._threads = threads
        self._manifest, _ = packaged.open_package(folder, BESIDE)
        config = packaged.runtime_config(folder / paths.RUNTIME_CONFIG)
        length = config["model"]["context_length"]
        self.context = min(context or length, length)
        # Graphs of static shapes part a prompt themselves, what slides over a text forgets its beginning, and what is
        # remembered of a whole text has no beginning to go back to.
        static = config["model"].get("type") == "decoder-pipeline"
        self._part = self.context if static else PART
        decoder = config["model"].get("decoder", {})
        whole = packaged.STATES & decoder.get("inputs", {}).keys()
        self._rewinds = kept > 0 and not static and "sliding_window" not in decoder and not whole
        self._generators = Generators(kept, self.context, self._is_gone)
        self._bare = _bare_settings(config.get("search", {}), folder / paths.RUNTIME_CONFIG)
        special = special_tokens(folder / "tokenizer.json")
        added = packaged.read_object(folder / "tokenizer.json")["added_tokens"]
        self._thinks = any(each["content"] == THINK for each in added)
        self._templates, self._schemas = self._apart(TEMPLATE, SECONDS), self._apart(SCHEMA, CLIENT_SECONDS)
        self._decoder = decoders.load(folder, config, threads)
        self._tokenizer = self._decoder.tokenizer
        self._prompts = Prompts(self._tokenizer, self._templates, *special)
        self._ends = {int(token) for token in self._tokenizer.eos_token_ids}
        self._named = {name: self._adapter(name) for name in self._names()}
        self._known: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        # Called by whoever takes turns before the model runs, which takes long.
        self.before_run: Callable[[], None] = lambda: None
        # So that clients' schemas keep no conversation waiting.
        self.reading, self.compiling = ThreadPoolExecutor(1, "reading"), ThreadPoolExecutor(1, "compiling")

    @property
    def name(self) -> str:
        """What the package is called."""
        return str(self._manifest.get("name") or BARE)

    @property
    def models(self) -> list[str]:
        """What a request's `model` may name: the package and `base` for the bare model, and each adapter."""
        return list(dict.fromkeys([self.name, BARE, *self._named]))

    @property
    def adapters(self) -> Mapping[str, Named]:
        """The adapters by their names."""
        return self._named

    def load_adapter(self, name: str, folder: str) -> Named:
        """Load an adapter, in the place of another one of its name; answers that have begun keep theirs.

        :param folder: its folder among those that the operator lets adapters be loaded from
        :raises RefusedError: if it cannot be served
        """
        assert self._shelf
        if name in (self.name, BARE) or not re.fullmatch(wire.NAME, name):
            raise RefusedError(
                f"no adapter can be called {name!r}: take letters, digits, and . _ -, and not the bare model's name",
                409,
                param="name",
                code="invalid_value",
            )
        named = self._shelf.load(
            folder, self._manifest["base_sha256"], self._decoder, lambda schema: self._check_own_schema(schema, folder)
        )
        with self._lock:
            self._named = dict(sorted({**self._named, name: named}.items()))
        self._generators.forget()
        return named

    def unload_adapter(self, name: str) -> None:
        """Serve an adapter no more; answers that have begun keep it until they end.

        :raises RefusedError: if there is none of that name
        """
        with self._lock:
            if name not in self._named:
                raise RefusedError(
                    f"there is no adapter {name!r}; GET /v1/adapters lists them",
                    404,
                    param="name",
                    code="adapter_not_found",
                )
            self._named = {each: named for each, named in self._named.items() if each != name}
        self._generators.forget()

    def close(self) -> None:
        """End the processes beside this one."""
        for pool in (self.reading, self.compiling):
            pool.shutdown(wait=False, cancel_futures=True)
        self._templates.close()
        self._schemas.close()

    def check_schema(self, request: wire.ChatRequest) -> None:
        """Refuse a request whose own schema answers cannot be held to; a client may wait for that."""
        text = request.checked_schema()
        if text is None:
            return
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
                return
        try:
            self._schemas.compile(text)
        except ApartError as error:
            raise RefusedError(
                f"answers cannot be held to the schema ({error})", param=request.schema_param, code="invalid_schema"
            ) from error
        with self._lock:
            self._known[text] = None
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)

    def read(self, request: wire.ChatRequest) -> Answer:
        """Return the answer that a request asks for, before its first turn.

        :raises RefusedError: if the model cannot be asked that
        """
        named = self._named.get(request.model)
        if named is None and request.model not in (self.name, BARE):
            raise unknown(request.model)
        settings = _changed(named.manifest["generation"] if named else self._bare, request)
        schema = _schema(request, named)
        prompt = self._prompts.of(request, named, thinks=schema is None)
        if len(prompt) >= self.context:
            raise RefusedError(
                f"the prompt has {len(prompt)} tokens, but prompt and answer together may have {self.context}",
                param="messages",
                code="context_length_exceeded",
            )
        most = min(settings["max_new_tokens"], self.context - len(prompt))
        return Answer(prompt, named, settings, schema, most, request.seed, request.tops())

    def turns(self, answer: Answer) -> Iterator[str]:
        """Yield an answer turn by turn, a part of the prompt ("") or a token each time, up to its first stop text.

        What the model thinks before comes as Thoughts, if its tokenizer has marks for them; where its tokens'
        log-probabilities are asked for, all is the answer.
        """
        pieces = before(self._pieces(answer), answer.settings["stop"])
        if not self._thinks or answer.schema is not None or answer.tops is not None:
            return pieces
        return parted(pieces, self._tokenizer.decode(answer.prompt[-MARK:]).rstrip().endswith(THINK))

    def _pieces(self, answer: Answer) -> Iterator[str]:
        length = len(answer.prompt) + answer.most
        decoder = self._decoder_of(answer)
        with self._generators.using(self._key(answer), answer.prompt, length, partial(self._generator, answer)) as held:
            answer.reused = len(held.read)
            try:
                for part in held.parts(answer.prompt, self._part):
                    self.before_run()
                    held.generator.append_tokens(part)
                    yield ""
                yield from self._written(answer, held.generator)
            finally:
                decoder.leave(held.generator)

    def _written(self, answer: Answer, generator: Generator) -> Iterator[str]:
        stream, decoder = self._tokenizer.create_stream(), self._decoder_of(answer)
        token, length = None, 0
        while answer.written < answer.most and not generator.is_done():
            if decoder.has_to_run(generator):
                self.before_run()
            # Which change when the next token is chosen among them.
            logits = None if answer.tops is None else np.array(generator.get_logits())
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            answer.written += 1
            if answer.written == answer.most:
                # Here, and not with the next turn, as others take theirs before that.
                decoder.leave(generator)
            if logits is not None:
                told = chances.of(logits, token, answer.tops or 0, lambda each: self._tokenizer.decode([each]))
                answer.chances.append(Chance(length, told))
            piece = stream.decode(token)
            length += len(piece)
            yield piece
        answer.finish_reason = "stop" if token in self._ends else "length"

    def _key(self, answer: Answer) -> Key | None:
        """Return what generators that can give the answer have in common; None if a new one alone gives it."""
        options = packaged.search_options(answer.settings)
        # A grammar and a sequence of chances are at their beginning only once.
        if not self._rewinds or answer.schema is not None or (answer.seed is not None and options["do_sample"]):
            return None
        return Key(answer.named, tuple(options.items()))

    def _decoder_of(self, answer: Answer) -> Decoder:
        return answer.named.merged if answer.named and answer.named.merged else self._decoder

    def _generator(self, answer: Answer, room: int) -> Generator:
        adapter = answer.named.loaded if answer.named else None
        asked = Asked(answer.settings, answer.schema, answer.seed)
        return self._decoder_of(answer).generator(adapter, room, asked)

    def _is_gone(self, key: Key) -> bool:
        return key.named is not None and all(key.named is not each for each in self._named.values())

    def _names(self) -> list[str]:
        return sorted(path.parent.name for path in self._folder.glob(f"adapters/*/{paths.ADAPTER_MANIFEST}"))

    def _adapter(self, name: str) -> Named:
        folder = self._folder / "adapters" / name
        named = adapters.read(folder, self._manifest["base_sha256"])
        if named.schema is not None:
            self._check_own_schema(named.schema, f"{name!r} in {self._folder}")
        if named.manifest.get("merged", False):
            config = packaged.runtime_config(folder / paths.RUNTIME_CONFIG)
            named.merged = decoders.load(folder, config, self._threads)
        else:
            adapters.load(named, folder, self._decoder)
        return named

    def _check_own_schema(self, schema: str, where: str) -> None:
        # It may take longer than a client's, which is to wait for none.
        own = self._apart(SCHEMA, SECONDS)
        try:
            own.compile(schema)
        except ApartError as error:
            raise UserError(
                f"answers cannot be held to the response schema of {where} ({error}): "
                "use only a package whose maker you trust, and tell them"
            ) from error
        finally:
            own.close()

    def _apart(self, what: str, seconds: float) -> Apart:
        try:
            return Apart(self._folder, seconds)
        except ApartError as error:
            raise UserError(f"the tokenizer of {self._folder} cannot be loaded ({error}): {packaged.AGAIN}") from error


def unknown(model: str) -> RefusedError:
    """Return the refusal of a model that is not there."""
    return RefusedError(
        f"there is no model {model!r} here; GET /v1/models lists them", 404, param="model", code="model_not_found"
    )


def _schema(request: wire.ChatRequest, named: Named | None) -> str | None:
    """Return the schema that an answer is held to: the request's, or the adapter's where it says nothing."""
    if named and request.response_format is None:
        return named.schema
    return request.checked_schema()


def _bare_settings(search: Mapping[str, Any], path: Path) -> dict:
    """Return how the bare model's answers are given, as genai_config.json has it."""
    own = {name: search[name] for name in ("temperature", "top_p", "top_k", "repetition_penalty") if name in search}
    if not search.get("do_sample"):
        own["temperature"] = 0
    try:
        return packaged.generation(own)
    except ValueError as error:
        raise UserError(f"{packaged.shown(path)} is damaged (search: {error}): {packaged.AGAIN}") from error


def _changed(settings: Mapping[str, Any], request: wire.ChatRequest) -> dict:
    """Return settings of generation with what a request says in their place."""
    given = {
        "temperature": request.temperature,
        "top_p": None if request.top_p is None else max(request.top_p, LEAST_TOP_P),
        "top_k": request.top_k,
        "repetition_penalty": request.repetition_penalty,
        "max_new_tokens": request.most(),
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    # What is to be one call ends with it.
    one = [tools.CLOSE] if request.functions() and not request.parallel_tool_calls else []
    return {**settings, **chosen, "stop": [*settings["stop"], *request.stops(), *one]}
