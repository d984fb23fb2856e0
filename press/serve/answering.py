"""A verified package in memory, and its answers as turns."""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any, Literal

import onnxruntime_genai as og

from press.core import paths
from press.core.errors import UserError
from press.data import tokens
from press.model import packaged
from press.serve import wire
from press.serve.apart import SCHEMA, TEMPLATE, Apart, ApartError, line
from press.serve.errors import RefusedError
from press.serve.stops import before

# What a release has besides the package's own files.
BESIDE = (paths.CARD, "bom.cdx.json", paths.GATES, paths.METRICS, paths.PROVENANCE, paths.SIGNATURE)
BARE = "base"
RESPONSE = "{response}"
# Tokens of a prompt that are read in one turn: the runtime holds Python's lock meanwhile, and the others wait.
PART = 128
# What a package's maker wrote may take longer to compile than what a client sends.
SECONDS, CLIENT_SECONDS = 20, 5
# Clients' schemas that are known to compile.
KNOWN = 256
# The runtime takes seeds of 31 bits.
SEEDS = 2**31
# What the runtime takes for the least share of top_p.
LEAST_TOP_P = packaged.GENERATION["top_p"][1]


@dataclass
class Answer:
    """One answer: what it is made from, and how far it has come."""

    prompt: list[int]
    adapter: str | None
    settings: Mapping[str, Any]
    schema: str | None
    most: int
    seed: int | None
    written: int = 0
    finish_reason: Literal["stop", "length"] = "stop"


@dataclass
class Named:
    """An adapter, by what its manifest says."""

    manifest: dict
    # The adapter as a whole model.
    merged: og.Model | None = None
    schema: str | None = field(init=False)

    def __post_init__(self) -> None:
        schema = self.manifest["response_schema"]
        self.schema = None if schema is None else json.dumps(schema)


class Package:
    """A package whose files were verified before any of them was loaded.

    :param folder: a package, or a release
    :param threads: threads of a product of matrices, None for what the runtime chooses
    :param context: tokens that a prompt and its answer may have, None for what the model can take
    :raises UserError: if it is damaged, names code, or cannot be loaded
    """

    def __init__(self, folder: Path, threads: int | None = None, context: int | None = None) -> None:
        self._folder = folder
        self._threads = threads
        self._manifest, _ = packaged.open_package(folder, BESIDE)
        config = packaged.runtime_config(folder / paths.RUNTIME_CONFIG)
        length = config["model"]["context_length"]
        self.context = min(context or length, length)
        # Graphs of static shapes part a prompt themselves.
        self._part = self.context if config["model"].get("type") == "decoder-pipeline" else PART
        self._bare = _bare_settings(config.get("search", {}), folder / paths.RUNTIME_CONFIG)
        self._control, self._start = _special_tokens(folder / "tokenizer.json")
        self._templates, self._schemas = self._apart(TEMPLATE, SECONDS), self._apart(SCHEMA, CLIENT_SECONDS)
        self._model = self._load(folder)
        self._tokenizer = og.Tokenizer(self._model)
        self._ends = {int(token) for token in self._tokenizer.eos_token_ids}
        self._adapters = og.Adapters(self._model)
        self._named = {name: self._adapter(name) for name in self._names()}
        self._known: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
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

    def close(self) -> None:
        """End the processes beside this one."""
        for pool in (self.reading, self.compiling):
            pool.shutdown(wait=False, cancel_futures=True)
        self._templates.close()
        self._schemas.close()

    def check_schema(self, request: wire.ChatRequest) -> None:
        """Refuse a request whose own schema answers cannot be held to; a client may wait for that."""
        schema = request.own_schema()
        if schema is None:
            return
        text = wire.checked(schema)
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
                return
        try:
            self._schemas.compile(text)
        except ApartError as error:
            raise RefusedError(
                f"answers cannot be held to the schema ({error})", param="response_format", code="invalid_schema"
            ) from error
        with self._lock:
            self._known[text] = None
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)

    def read(self, request: wire.ChatRequest) -> Answer:
        """Return the answer that a request asks for, before its first turn.

        :raises RefusedError: if the model cannot be asked that
        """
        if request.model not in self.models:
            raise unknown(request.model)
        named = self._named.get(request.model)
        settings = _changed(named.manifest["generation"] if named else self._bare, request)
        prompt = self._prompt(request.messages, named)
        if len(prompt) >= self.context:
            raise RefusedError(
                f"the prompt has {len(prompt)} tokens, but prompt and answer together may have {self.context}",
                param="messages",
                code="context_length_exceeded",
            )
        adapter = request.model if named else None
        most = min(settings["max_new_tokens"], self.context - len(prompt))
        return Answer(prompt, adapter, settings, _schema(request, named), most, request.seed)

    def turns(self, answer: Answer) -> Iterator[str]:
        """Yield an answer turn by turn, a part of the prompt ("") or a token each time, up to its first stop text."""
        return before(self._pieces(answer), answer.settings["stop"])

    def _pieces(self, answer: Answer) -> Iterator[str]:
        named = self._named[answer.adapter] if answer.adapter else None
        model = named.merged if named and named.merged else self._model
        params = og.GeneratorParams(model)
        params.set_search_options(
            max_length=len(answer.prompt) + answer.most, **packaged.search_options(answer.settings)
        )
        if answer.seed is not None:
            params.set_search_options(random_seed=answer.seed % SEEDS)
        if answer.schema is not None:
            params.set_guidance("json_schema", answer.schema)
        generator = og.Generator(model, params)
        if named and not named.merged:
            generator.set_active_adapter(self._adapters, answer.adapter)
        for place in range(0, len(answer.prompt), self._part):
            generator.append_tokens(answer.prompt[place : place + self._part])
            yield ""
        stream = self._tokenizer.create_stream()
        token = None
        while not generator.is_done():
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            answer.written += 1
            yield stream.decode(token)
        answer.finish_reason = "stop" if token in self._ends else "length"

    def _names(self) -> list[str]:
        return sorted(path.parent.name for path in self._folder.glob(f"adapters/*/{paths.ADAPTER_MANIFEST}"))

    def _adapter(self, name: str) -> Named:
        folder = self._folder / "adapters" / name
        path = folder / paths.ADAPTER_MANIFEST
        named = Named(packaged.read_adapter(path))
        base, mine = (str(each.get("base_sha256"))[:12] for each in (named.manifest, self._manifest))
        if base != mine:
            raise UserError(f"{path} is of another base model ({base}) than this package ({mine})")
        try:
            _filled(named.manifest["template"], "")
        except (AttributeError, KeyError, ValueError) as error:
            raise UserError(f"{packaged.shown(path)} is damaged: {packaged.AGAIN}") from error
        if named.schema is not None:
            self._check_own_schema(name, named.schema)
        if named.manifest.get("merged", False):
            packaged.runtime_config(folder / paths.RUNTIME_CONFIG)
            named.merged = self._load(folder)
            return named
        try:
            self._adapters.load(str(folder / paths.ADAPTER_FILE), name)
        except RuntimeError as error:
            raise UserError(f"the adapter {name!r} cannot be loaded ({line(error)}): {packaged.AGAIN}") from error
        return named

    def _check_own_schema(self, name: str, schema: str) -> None:
        try:
            self._templates.compile(schema)
        except ApartError as error:
            raise UserError(
                f"answers cannot be held to the response schema of {name!r} in {self._folder} ({error}): "
                "use only a package whose maker you trust, and tell them"
            ) from error

    def _apart(self, what: str, seconds: float) -> Apart:
        try:
            return Apart(self._folder, seconds)
        except ApartError as error:
            raise UserError(f"the tokenizer of {self._folder} cannot be loaded ({error}): {packaged.AGAIN}") from error

    def _load(self, folder: Path) -> og.Model:
        try:
            config = og.Config(str(folder))
            if self._threads:
                options = {"intra_op_num_threads": self._threads}
                config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
            return og.Model(config)
        except RuntimeError as error:
            raise UserError(f"the model in {folder} cannot be loaded ({line(error)}): {packaged.AGAIN}") from error

    def _prompt(self, messages: Sequence[wire.Message], named: Named | None) -> list[int]:
        escapes = named is not None and named.manifest.get("control_tokens") == "escape"
        for place, message in enumerate(messages):
            text = message.text()
            self._check(self._escaped(text) if escapes else text, f"messages.{place}.content")
        if named:
            question = _question(messages, "an adapter")
            question = self._escaped(question) if escapes else question
            return self._encoded(_filled(named.manifest["template"], question))
        try:
            text = self._templates.apply([message.turn() for message in messages])
        except ApartError as error:
            raise RefusedError(f"the model's chat template does not take that ({error})", param="messages") from error
        if text is None:
            # It continues a text, which begins as it does in training; the runtime's tokenizer begins it with nothing.
            return [*self._start, *self._encoded(_question(messages, "a model without a chat template"))]
        return self._encoded(text)

    def _escaped(self, text: str) -> str:
        return tokens.escaped(text, self._control.values())

    def _check(self, text: str, param: str) -> None:
        """Refuse a text that the model would read as something else than what stands there."""
        if "\0" in text:
            raise RefusedError(f"{param} has the character U+0000, which would cut it off", param=param)
        for token in self._encoded(text):
            if token in self._control:
                raise RefusedError(
                    f"{param} has {self._control[token]!r}, which the model would read as a control token", param=param
                )

    def _encoded(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text)]


def unknown(model: str) -> RefusedError:
    """Return the refusal of a model that is not there."""
    return RefusedError(
        f"there is no model {model!r} here; GET /v1/models lists them", 404, param="model", code="model_not_found"
    )


def _schema(request: wire.ChatRequest, named: Named | None) -> str | None:
    """Return the schema that an answer is held to: the request's, or the adapter's where it says nothing."""
    if request.response_format is None:
        return named.schema if named else None
    own = request.own_schema()
    return None if own is None else wire.checked(own)


def _question(messages: Sequence[wire.Message], who: str) -> str:
    if len(messages) != 1 or messages[0].role != "user":
        raise RefusedError(
            f"{who} answers single questions: send one message, of the role user",
            param="messages",
            code="one_question",
        )
    return messages[0].text()


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
    return {**settings, **chosen, "stop": [*settings["stop"], *request.stops()]}


def _filled(template: str, question: str) -> str:
    """Return an adapter's template up to the answer, with the question for whatever field it names."""
    before_answer, _ = template.split(RESPONSE)
    return "".join(text + question * (name is not None) for text, name, *_ in Formatter().parse(before_answer))


def _special_tokens(path: Path) -> tuple[dict[int, str], list[int]]:
    """Return the ids and texts of a tokenizer's control tokens, and the ids of what it begins a text with."""
    try:
        tokenizer = packaged.read_object(path)
        control = {token["id"]: token["content"] for token in tokenizer["added_tokens"] if token["special"]}
        processor = tokenizer.get("post_processor") or {}
        for each in processor.get("processors", [processor]):
            if each.get("type") == "TemplateProcessing" and "SpecialToken" in each["single"][0]:
                return control, each["special_tokens"][each["single"][0]["SpecialToken"]["id"]]["ids"]
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise UserError(f"{packaged.shown(path)} is damaged: {packaged.AGAIN}") from error
    return control, []
