"""Chat with a packaged model, bare or with one of its adapters.

    python app.py --adapter travel "how far in advance should i arrive at the airport"
    python app.py                      interactive; /adapter NAME, /adapter none, /reset, /quit

The answers of an adapter with a response schema are held to it, unless --free says otherwise.

Needs a package folder and onnxruntime-genai, nothing else; model-signing, too, to check who signed a release (--key).
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import re
import signal
import stat
import string
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Without it ONNX Runtime tells Microsoft what it runs, and on what, from its import on (its Privacy.md).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime_genai as og

NONE = "none"
HELP = "/adapter NAME (or none), /adapters, /reset, /quit; Ctrl-C stops an answer"
MANIFEST = "manifest.json"
RUNTIME_CONFIG = "genai_config.json"
ADAPTER_MANIFEST = "adapter.json"
SIGNATURE = "model.sig"
# What a release has besides the package's own files.
BESIDE = ("README.md", "bom.cdx.json", "bom.spdx3.json", "gates.json", "metrics.json", "provenance.json", SIGNATURE)
RESPONSE = "{response}"
# Where an adapter's control_tokens are escaped, a space of no width stands in the names of control tokens.
ESCAPE = "\u200b"
# Tokens that a generator has room for at least, and of what it reads: one alone would be computed otherwise.
LEAST_ROOM, LEAST_PART = 256, 2
CUT = "the answer is cut: it has all tokens that it may have (--max-new-tokens, or the model's context)"
# How long what a package's maker wrote may take, a chat template or a schema to compile, which need not end.
SECONDS = 20
TEMPLATE, SCHEMA = "chat template", "response schema"
NO_TEMPLATE = "Empty chat template"
# What a decoder's inputs have where its layers remember a text otherwise than by keys and values of its tokens.
STATES = {"past_conv_names", "past_recurrent_names"}
# Behind what a model thinks before it answers.
THOUGHT = "</think>"
# Characters of a sentence, and of each of its ends where the middle is left out.
LONGEST, HALF = 1000, 500


class UserError(Exception):
    """What the user asked for cannot be done; the message is one sentence that says why.

    What it quotes of a package or a library may be of any length.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= LONGEST else f"{message[:HALF]} [...] {message[-HALF:]}")


class Chat:
    """A packaged model in a conversation.

    Without an adapter the model's own chat template keeps the conversation's turns, and so does an adapter that is
    trained on conversations; to any other one, each question stands for itself.

    :param max_new_tokens: tokens that an answer may have; None for what the adapter says
    :param free: whether answers may break an adapter's response schema
    """

    def __init__(
        self, package: Path, max_new_tokens: int | None = None, key: Path | None = None, free: bool = False
    ) -> None:
        if _whole_characters(str(package)) != str(package):
            raise UserError(f"the runtime cannot open {shown(package)}, whose name is not in UTF-8: rename it")
        self.package = package
        self.max_new_tokens = max_new_tokens
        self.free = free
        self.manifest, _ = open_package(package, BESIDE)
        if key:
            _check_signature(package, key)
        model = runtime_config(package / RUNTIME_CONFIG)["model"]
        self.context = model["context_length"]
        self.rewinds = _rewinds(model)
        # It reads the tokenizer's files, too, and so is first to crash.
        self.apart = Apart(package)
        self.model = _load_model(package)
        self.apart.wait()
        self.merged: dict[str, og.Model] = {}
        self.tokenizer = og.Tokenizer(self.model)
        self.adapters = og.Adapters(self.model)
        self.manifests: dict[str, dict] = {}
        self.adapter: str | None = None
        self.remarks: list[str] = []
        self.turns: list[dict[str, str]] = []
        self.read: Read | None = None
        self.control, self.start = _special_tokens(package / "tokenizer.json")

    def available(self) -> list[str]:
        """Return the names of the package's adapters."""
        return sorted(path.parent.name for path in self.package.glob(f"adapters/*/{ADAPTER_MANIFEST}"))

    def switch(self, name: str) -> None:
        """Activate an adapter, or none, and start a new conversation."""
        if name != NONE and name not in self.manifests:
            self._load(name)
        self.adapter = None if name == NONE else name
        self.turns = []
        self.read = None

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer piece by piece; then the turn is part of the conversation, and `remarks` is about it."""
        manifest = self.manifests[self.adapter] if self.adapter else {}
        question = self._as_read(_whole_characters(question))
        ids = self.prompt(question)
        settings = manifest.get("generation") or generation({})
        most = min(self.max_new_tokens or settings["max_new_tokens"], self.context - len(ids))
        answer, self.remarks = "", []
        try:
            generator = self._generator(ids, most, manifest)
            for piece in _before(self._pieces(generator, most), settings["stop"]):
                answer += piece
                yield piece
            self.remarks += self._remarks(answer, manifest)
        except RuntimeError as error:
            # Such as of sizes in genai_config.json that are not the graph's, or of memory that is not there.
            raise UserError(f"the model in {self.package} cannot answer ({_line(error)})") from error
        finally:
            if not manifest or manifest.get("turn"):
                # A model is not told what it thought before an earlier answer.
                said = answer.rpartition(THOUGHT)[2].lstrip() if THOUGHT in answer else answer
                told = self._as_read(said)
                self.turns += [{"role": "user", "content": question}, {"role": "assistant", "content": told}]

    def _as_read(self, text: str) -> str:
        """Return a text as the model reads it: escaped, where the adapter learned from such texts."""
        manifest = self.manifests[self.adapter] if self.adapter else {}
        return escaped(text, self.control.values()) if manifest.get("control_tokens") == "escape" else text

    def _generator(self, ids: list[int], most: int, manifest: Mapping[str, Any]) -> og.Generator:
        """Return what has read a prompt, after as much of it as was read for an earlier turn."""
        schema = None if self.free else manifest.get("response_schema")
        before, self.read = self.read, None
        read = before.rewound(ids, len(ids) + most) if before and schema is None else []
        if before and read:
            generator, room = before.generator, before.room
        else:
            room = self._room(len(ids) + most)
            generator = self._new_generator(room, manifest, schema)
        generator.append_tokens(ids[len(read) :])
        if self.rewinds:
            self.read = Read(generator, room, ids)
        return generator

    def _room(self, length: int) -> int:
        """Return for how many tokens a generator gets memory: for the turns to come, too, if it can go back."""
        return min(max(LEAST_ROOM, 1 << (length - 1).bit_length()), self.context) if self.rewinds else length

    def _new_generator(self, room: int, manifest: Mapping[str, Any], schema: dict | None) -> og.Generator:
        model = self.merged.get(self.adapter, self.model) if self.adapter else self.model
        params = og.GeneratorParams(model)
        # Without an adapter, all else is as genai_config.json has it.
        params.set_search_options(max_length=room)
        if manifest:
            params.set_search_options(**search_options(manifest["generation"]))
        if schema is not None:
            params.set_guidance("json_schema", json.dumps(schema))
        generator = og.Generator(model, params)
        if self.adapter and self.adapter not in self.merged:
            generator.set_active_adapter(self.adapters, self.adapter)
        return generator

    def _pieces(self, generator: og.Generator, most: int) -> Iterator[str]:
        stream = self.tokenizer.create_stream()
        token = None
        for _ in range(most):
            if generator.is_done():
                break
            generator.generate_next_token()
            token = generator.get_next_tokens()[0]
            yield stream.decode(token)
        if token not in self.tokenizer.eos_token_ids:
            self.remarks = [CUT]

    def _remarks(self, answer: str, manifest: Mapping[str, Any]) -> list[str]:
        """Return what is to be said of an answer, which no grammar rules out."""
        if not self.remarks and manifest.get("response_schema") is not None:
            try:
                parse(answer)
            except (ValueError, RecursionError) as error:
                return [f"the answer is no JSON that every program reads ({_line(error)})"]
        return []

    def _load(self, name: str) -> None:
        folder = self.package / "adapters" / name
        if name not in self.available():
            raise UserError(f"there is no adapter {name!r} in {self.package}; it has {', '.join(self.available())}")
        manifest = read_adapter(folder / ADAPTER_MANIFEST)
        base, mine = (str(each.get("base_sha256"))[:12] for each in (manifest, self.manifest))
        if base != mine:
            raise UserError(
                f"the adapter {name!r} was trained on another base model ({base}) than this package's ({mine})"
            )
        try:
            _filled(manifest["template"], "", "")
            _filled(manifest.get("turn", RESPONSE), "", "")
        except (AttributeError, LookupError, ValueError) as error:
            raise UserError(f"{folder / ADAPTER_MANIFEST} is damaged: {AGAIN}") from error
        if manifest["response_schema"] is not None and not self.free:
            _, wrong = self.apart.ask(SCHEMA, json.dumps(manifest["response_schema"]))
            if wrong:
                raise UserError(
                    f"answers cannot be held to the response schema of {name!r} in {self.package} ({wrong}): "
                    "--free lets the adapter answer without it"
                )
        if manifest.get("merged", False):
            runtime_config(folder / RUNTIME_CONFIG)
            self.merged[name] = _load_model(folder)
        else:
            try:
                self.adapters.load(str(folder / "adapter.onnx_adapter"), name)
            except RuntimeError as error:
                raise UserError(f"the adapter {name!r} cannot be loaded ({_line(error)}): {AGAIN}") from error
        self.manifests[name] = manifest

    def prompt(self, question: str) -> list[int]:
        """Return the prompt's token ids, with as many earlier turns as the context takes."""
        self._check(question, "the question", "write it otherwise")
        for turn in self.turns:
            self._check(turn["content"], "an earlier turn", "/reset starts a new conversation")
        while True:
            ids = self._encoded(question)
            if len(ids) < self.context:
                return ids
            if not self.turns:
                raise UserError(f"the question has {len(ids)} tokens, but the model's context only {self.context}")
            self.turns = self.turns[2:]

    def _check(self, text: str, what: str, remedy: str) -> None:
        """Refuse a text that the model would read as something else than what stands there."""
        if "\0" in text:
            raise UserError(f"{what} has the character U+0000, which would cut it off: {remedy}")
        for token in self.tokenizer.encode(text):
            if token in self.control:
                name = self.control[token]
                raise UserError(f"{what} has {name!r}, which the model would read as a control token: {remedy}")

    def _encoded(self, question: str) -> list[int]:
        if self.adapter:
            manifest = self.manifests[self.adapter]
            template, text = manifest["template"], ""
            for asked, answered in zip(self.turns[::2], self.turns[1::2], strict=True):
                text += _filled(template, asked["content"], answered["content"])
                template = manifest["turn"]
            return list(self.tokenizer.encode(text + _filled(template, question)))
        prompt = self.apart.apply([*self.turns, {"role": "user", "content": question}])
        # A model without a chat template continues a text, which begins as it does in training; templates say how.
        return [*(self.start if prompt is None else []), *self.tokenizer.encode(question if prompt is None else prompt)]


class Read:
    """A generator that has read a prompt, for the next one that begins as it does: a conversation's next turn.

    What it has written is read again, all at once: the runtime computes single tokens by other kernels, so that an
    answer would depend on how the earlier ones came about.

    :param room: tokens that it has memory for
    """

    def __init__(self, generator: og.Generator, room: int, ids: list[int]) -> None:
        self.generator = generator
        self.room = room
        self.ids = ids

    def rewound(self, ids: list[int], length: int) -> list[int]:
        """Go back to what another prompt begins with as well, and return that; nothing, if it has to be read anew.

        :param length: tokens of the prompt and its answer
        """
        most = min(len(self.ids), len(ids) - LEAST_PART)
        common = next((place for place in range(most) if self.ids[place] != ids[place]), most)
        if common <= 0 or length > self.room:
            return []
        try:
            self.generator.rewind_to(common)
        except RuntimeError:
            # Not every provider of ONNX Runtime can.
            return []
        return ids[:common]


class Apart:
    """What may crash or never end, in a process of its own: a package's chat template, and compiling its schemas."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, str(self.package)), daemon=True)
        self._process.start()
        theirs.close()

    def wait(self) -> None:
        """Wait for the process to have read the template and the tokenizer.

        :raises UserError: if it cannot, or crashes
        """
        _, reason = self._answer(TEMPLATE)
        if reason:
            raise UserError(f"the tokenizer of {self.package} cannot be loaded ({reason}): {AGAIN}")

    def apply(self, messages: list[dict[str, str]]) -> str | None:
        """Return the text that the model is given for a conversation, or None if there is no template.

        :raises UserError: if the template refuses the conversation, crashes or takes too long
        """
        prompt, reason = self.ask(TEMPLATE, json.dumps(messages))
        if reason and not reason.startswith(NO_TEMPLATE):
            raise UserError(f"the chat template of {self.package} cannot be applied ({reason})")
        return prompt

    def ask(self, what: str, data: str) -> tuple[str | None, str]:
        """Return what comes of a conversation for the chat template, or of a schema; and what went wrong.

        :raises UserError: if the process crashes or takes too long
        """
        if not self._process.is_alive():
            self._start()
            self.wait()
        try:
            self._pipe.send((what, data))
        except OSError:
            # It was ended while it waited, such as by the system for its memory.
            self._start()
            self.wait()
            self._pipe.send((what, data))
        return self._answer(what)

    def _answer(self, what: str) -> tuple[str | None, str]:
        how = f"takes more than {SECONDS} s"
        try:
            if self._pipe.poll(SECONDS):
                return self._pipe.recv()
        except (EOFError, OSError):
            how = "crashes, or was killed"
        except BaseException:
            # Such as Ctrl-C: what is still to come would be taken for the answer to the next question.
            self._process.kill()
            self._process.join()
            raise
        self._process.kill()
        self._process.join()
        raise UserError(f"the {what} of {self.package} {how}: use only a package whose maker you trust")


def _serve(asked: Connection, package: str) -> None:
    """Answer each question with what comes of it and what went wrong, until the program ends."""
    # Ctrl-C reaches both processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        tokenizer = og.Tokenizer(og.Config(package))
    except RuntimeError as error:
        asked.send((None, _line(error)))
        return
    asked.send((None, ""))
    while True:
        try:
            what, data = asked.recv()
            if what == SCHEMA:
                asked.send((None, schema_complaint(Path(package), json.loads(data)) or ""))
            else:
                asked.send((tokenizer.apply_chat_template(data, add_generation_prompt=True), ""))
        # The latter where the template's text is no UTF-8.
        except (RuntimeError, UnicodeDecodeError) as error:
            asked.send((None, _line(error)))
        except EOFError:
            return


def escaped(text: str, names: Iterable[str]) -> str:
    """Return a text with a space of no width behind the first character of each control token's name."""
    pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(pattern, lambda match: match[0][0] + ESCAPE + match[0][1:], text) if pattern else text


def _before(pieces: Iterator[str], stops: list[str]) -> Iterator[str]:
    """Yield the pieces of an answer up to the first of its stop texts, whose beginnings are held back."""
    held = ""
    for piece in pieces:
        held += piece
        if places := [held.index(stop) for stop in stops if stop in held]:
            yield held[: min(places)]
            return
        places = [(stop, n) for stop in stops for n in range(min(len(stop), len(held) + 1))]
        kept = max((n for stop, n in places if held.endswith(stop[:n])), default=0)
        yield held[: len(held) - kept]
        held = held[len(held) - kept :]
    if held:
        yield held


def _filled(template: str, question: str, answer: str | None = None) -> str:
    """Return an adapter's template with the question for whatever field it names, up to the answer or with it."""
    before, after = template.split(RESPONSE)
    asked = "".join(text + question * (name is not None) for text, name, *_ in string.Formatter().parse(before))
    return asked if answer is None else asked + answer + after.format()


def _rewinds(model: Mapping[str, Any]) -> bool:
    """Return whether a model can go back in what it has read.

    Graphs of static shapes part a prompt themselves, what slides over a text forgets its beginning, and what is
    remembered of a whole text has no beginning to go back to.
    """
    decoder = model.get("decoder", {})
    whole = STATES & decoder.get("inputs", {}).keys()
    return model.get("type") != "decoder-pipeline" and "sliding_window" not in decoder and not whole


def _whole_characters(text: str) -> str:
    """Replace what a tokenizer cannot take: halves of a character, as of bytes that no letter has."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _line(error: Exception) -> str:
    # llguidance appends all that it knows.
    return " ".join(str(error).partition("<state>")[0].split())


def _special_tokens(path: Path) -> tuple[dict[int, str], list[int]]:
    """Return the ids and texts of the tokens that a tokenizer reads as control tokens, and what it begins a text with.

    The runtime's own tokenizer begins a text with nothing.
    """
    try:
        tokenizer = json.loads(path.read_text(encoding="utf-8"))
        control = {token["id"]: token["content"] for token in tokenizer["added_tokens"] if token["special"]}
        processor = tokenizer.get("post_processor") or {}
        for each in processor.get("processors", [processor]):
            if each.get("type") == "TemplateProcessing" and "SpecialToken" in each["single"][0]:
                return control, each["special_tokens"][each["single"][0]["SpecialToken"]["id"]]["ids"]
    except (OSError, ValueError, AttributeError, IndexError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{shown(path)} is damaged: {AGAIN}") from error
    return control, []


def answer(chat: Chat, question: str) -> bool:
    """Print an answer as it comes and its speed on stderr; return False if Ctrl-C stopped it."""
    first = started = time.perf_counter()
    tokens = 0
    finished = True
    try:
        for piece in chat.ask(question):
            if not tokens:
                first = time.perf_counter()
            tokens += 1
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        finished = False
    print()
    if tokens > 1:
        speed = (tokens - 1) / (time.perf_counter() - first)
        print(f"[{tokens} tokens, first after {first - started:.2f} s, {speed:.1f} tokens/s]", file=sys.stderr)
    for remark in chat.remarks if finished else []:
        print(f"note: {remark}", file=sys.stderr)
    return finished


def converse(chat: Chat) -> None:
    """Read questions and commands until the input ends."""
    print(f"adapters: {', '.join(chat.available()) or NONE}; {HELP}")
    while True:
        try:
            line = input(f"{chat.adapter or NONE}> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        try:
            if not line:
                continue
            if line == "/quit":
                return
            if line == "/reset":
                chat.turns = []
            elif line == "/adapters":
                print("\n".join(chat.available()))
            elif line.startswith("/adapter "):
                chat.switch(line.removeprefix("/adapter ").strip())
            elif line.startswith("/"):
                print(HELP)
            else:
                answer(chat, line)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)


def _load_model(folder: Path) -> og.Model:
    try:
        return og.Model(str(folder))
    except RuntimeError as error:
        raise UserError(f"the model in {folder} cannot be loaded ({_line(error)}): {AGAIN}") from error


def _check_signature(package: Path, key: Path) -> None:
    """Refuse a package that was not signed with a public key's private one."""
    try:
        from model_signing.verifying import Config
    except ImportError as error:
        raise UserError("--key needs the Python package model-signing: install it, or leave --key out") from error
    if not (package / SIGNATURE).exists():
        raise UserError(f"{package} is not signed: take a release, which has {SIGNATURE}, or leave --key out")
    try:
        Config().use_elliptic_key_verifier(public_key=key).verify(package, package / SIGNATURE)
    except Exception as error:
        # The library has no type of its own.
        raise UserError(f"the signature of {package} does not hold for {key} ({_line(error)}): {AGAIN}") from error


# From here to `main` as in press/model/packaged.py, which says why.

AGAIN = "build, fetch or copy the package again"
# What libraries take for the name of a Python class to import, or of a vocabulary that may lie elsewhere.
FOREIGN = ("auto_map", "tiktoken_file")
CHAT_TEMPLATE = "chat_template.jinja"
# A name that the package's maker chooses.
ANY = "*"


def _number(value: object) -> bool:
    return isinstance(value, int | float)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _graph_name(value: object) -> bool:
    """Whether it names an input or output of a graph; the runtime formats the layer's number into it, as C does."""
    return isinstance(value, str) and re.fullmatch(r"[^%]*(%d)?[^%]*", value) is not None


def _file_name(value: object) -> bool:
    """Whether it names a file of the same folder."""
    return isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value) is not None


Allowed = Callable[[object], bool] | dict[str, "Allowed"]
SESSION: dict[str, Allowed] = {
    "log_id": _text,
    "session.disable_quant_qdq": _text,
    "session.qdq_matmulnbits_accuracy_level": _text,
    "provider_options": {
        "NvTensorRtRtx": {"enable_cuda_graph": _text, "multi_rotary_cache_concat_offset": _text},
        "OpenVINO": {"device_type": _text},
        "QNN": {"backend_type": _text},
        "VitisAI": {},
        "cuda": {"enable_cuda_graph": _text},
        "dml": {"enable_graph_capture": _text},
        "webgpu": {"enableGraphCapture": _text, "multiRotaryCacheConcatOffset": _text, "validationMode": _text},
    },
}
PART: dict[str, Allowed] = {
    "filename": _file_name,
    "session_options": SESSION,
    "inputs": _graph_name,
    "outputs": _graph_name,
    "run_on_prompt": _number,
    "run_on_token_gen": _number,
    "is_lm_head": _number,
}
DECODER: dict[str, Allowed] = {
    "filename": _file_name,
    "session_options": SESSION,
    "inputs": {ANY: _graph_name},
    "outputs": {ANY: _graph_name},
    "pipeline": {ANY: PART},
    "sliding_window": {
        "alignment": _text,
        "pad_value": _number,
        "slide_inputs": _number,
        "slide_key_value_cache": _number,
        "window_size": _number,
    },
    "layer_types": _text,
    **dict.fromkeys(
        (
            "conv_cache_size",
            "head_size",
            "hidden_size",
            "num_attention_heads",
            "num_hidden_layers",
            "num_key_value_heads",
        ),
        _number,
    ),
}
TOKENS = ("bos", "eos", "pad", "sep", "bot", "eot", "bor", "eor")
# What genai_config.json may set. A list in the file may have whatever its key may have.
CONFIG: dict[str, Allowed] = {
    "model": {
        "type": _text,
        "context_length": _number,
        "vocab_size": _number,
        "decoder": DECODER,
        **dict.fromkeys((f"{name}_token_id" for name in TOKENS), _number),
    },
    "search": {ANY: _number},
}
# How answers are given: the default of each setting, its least and its most. A temperature of 0 is greedy.
GENERATION: dict[str, tuple[float, float, float]] = {
    "temperature": (0.0, 0, 100),
    "top_p": (1.0, 0.001, 1),
    "top_k": (50, 0, 10**6),
    "repetition_penalty": (1.0, 0.01, 100),
    "max_new_tokens": (512, 1, 10**9),
}
# A graph of one Cast, from i to o: all that the runtime needs in order to load a model.
NO_WEIGHTS = bytes.fromhex(
    "08083a4a0a170a016912016f2204436173742a090a02746f1801a001021201675a150a016912100a0e0807120a0a0312"
    "01620a0312017362150a016f12100a0e0801120a0a031201620a0312017342040a001011"
)
# Characters of a response schema; the decoder compiles it for each answer, in a second where it is that long.
LONGEST_SCHEMA = 100_000


def open_package(folder: Path, beside: Collection[str] = ()) -> tuple[dict, dict[str, str]]:
    """Return a package's manifest and the SHA-256 of every file that is there.

    :param beside: names of files that may lie beside those of the manifest
    :raises UserError: naming the first file that is missing, damaged, not in the manifest or no plain file, or the
        first setting that a package may not have
    """
    try:
        present = plain_files(folder)
        if MANIFEST not in present:
            raise UserError(
                f"{folder / MANIFEST} is missing: {folder} is neither a package (`make repro` builds one) nor a release"
            )
        manifest = read_object(folder / MANIFEST)
        listed = manifest.get("files")
        if not isinstance(listed, dict) or not isinstance(manifest.get("base_sha256"), str):
            raise UserError(f"{folder / MANIFEST} is damaged: {AGAIN}")
        wrong = dict.fromkeys(sorted(listed.keys() - present.keys()), "missing")
        wrong |= dict.fromkeys(sorted(present.keys() - listed.keys() - {MANIFEST, *beside}), "not in the manifest")
        for name, what in wrong.items():
            raise UserError(f"{shown(folder / name)} is {what}: {AGAIN}")
        digests = {name: sha256(path) for name, path in present.items()}
    except OSError as error:
        raise UserError(f"{shown(error.filename)} cannot be read ({error.strerror}): {AGAIN}") from error
    for name in listed:
        if listed[name] != digests[name]:
            raise UserError(f"{shown(folder / name)} is damaged: {AGAIN}")
    for name in listed:
        check_config(folder / name)
    return manifest, digests


def plain_files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their relative POSIX paths, sorted, and empty folders by theirs and a slash.

    :raises UserError: for anything else that is there, such as a link or a pipe
    """
    entries = {}
    for parent, folders, names in os.walk(folder, onerror=_failed):
        here = Path(parent)
        if here != folder and not folders and not names:
            entries[f"{here.relative_to(folder).as_posix()}/"] = here
        for name in folders + names:
            path = here / name
            # Windows has links to folders of another kind, too.
            if path.is_symlink() or path.resolve() != here.resolve() / name:
                raise UserError(
                    f"{shown(path)} is a link, but a package has plain files only: copy what it leads to in its place, "
                    "if you trust that (DVC makes links where its cache.type says so)"
                )
            if name in names and not stat.S_ISREG(path.lstat().st_mode):
                raise UserError(f"{shown(path)} is no plain file, and a package has nothing else: {AGAIN}")
        entries |= {(here / name).relative_to(folder).as_posix(): here / name for name in names}
    return dict(sorted(entries.items()))


def _failed(error: OSError) -> None:
    raise error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown(path: Path | str) -> str:
    """Return a path for a sentence, without what a terminal would take for a command."""
    return str(path) if str(path).isprintable() else repr(str(path))


def read_object(path: Path) -> dict:
    """Read a JSON object in UTF-8; the libraries that read it next take another one of two equal keys.

    :raises UserError: if it is not there, or anything else
    """
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{shown(path)} is missing: {AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown(path)} is damaged: {AGAIN}") from error
    if not isinstance(value, dict):
        raise UserError(f"{shown(path)} is damaged: {AGAIN}")
    return value


def parse(text: str) -> object:
    """Return the value of a JSON text, if every reader takes it for the same.

    :raises ValueError: with what is wrong about it, or RecursionError
    """
    value = json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number)
    # An escape may stand for half of a character, which no tokenizer takes.
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _each_once(pairs: list[tuple[str, object]]) -> dict:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name is there twice in one object")
    return members


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def read_adapter(path: Path) -> dict:
    """Return what adapter.json says of an adapter, with all settings of how its answers are given.

    :raises UserError: if it does not say that as a package may
    """
    manifest = read_object(path)
    schema = manifest.setdefault("response_schema", None)
    try:
        manifest["generation"] = generation(manifest.get("generation", {}))
        if not isinstance(schema, dict | None):
            raise ValueError("response_schema is no JSON Schema of an object")
        if schema is not None and (length := len(json.dumps(schema))) > LONGEST_SCHEMA:
            raise ValueError(f"response_schema has {length} characters, but may have {LONGEST_SCHEMA}")
        for name in ("template", "turn"):
            if "\0" in str(manifest.get(name)):
                raise ValueError(f"{name} has the character U+0000, at which the runtime cuts a text off")
    except ValueError as error:
        raise UserError(f"{shown(path)} is damaged ({error}): {AGAIN}") from error
    return manifest


def generation(given: object) -> dict:
    """Return the settings of how answers are given, all of them.

    :raises ValueError: with what is wrong about them
    """
    if not isinstance(given, dict):
        raise ValueError("generation is no object")
    settings = {name: given.get(name, default) for name, (default, _, _) in GENERATION.items()}
    for name, (default, least, most) in GENERATION.items():
        if type(settings[name]) not in (type(default), int) or not least <= settings[name] <= most:
            kind = "an integer" if isinstance(default, int) else "a number"
            raise ValueError(f"{name} is {settings[name]!r}, but must be {kind} from {least} to {most}")
    stop = given.get("stop", [])
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise ValueError(f"stop is {stop!r}, but must be a list of texts, none of them empty")
    return settings | {"stop": stop}


def schema_complaint(folder: Path, schema: dict) -> str | None:
    """Return why the runtime cannot hold answers to a response schema, or None if it can.

    What it does then, it does here: it may also crash, or never end. So ask it in a process that may.

    :param folder: of a model, whose tokenizer is read, but not its weights
    """
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    config.clear_providers()
    names = {"filename": "none.onnx", "num_hidden_layers": 0, "inputs": {"input_ids": "i"}, "outputs": {"logits": "o"}}
    config.overlay(json.dumps({"model": {"type": "llama", "decoder": names}}))
    config.add_model_data(names["filename"], NO_WEIGHTS)
    model = og.Model(config)
    params = og.GeneratorParams(model)
    params.set_guidance("json_schema", json.dumps(schema))
    try:
        og.Generator(model, params)
    except RuntimeError as error:
        return " ".join(str(error).split()).removeprefix("Error creating grammar: ")
    return None


def search_options(settings: Mapping[str, Any], greedy: bool = False) -> dict:
    """Return settings of how answers are given as onnxruntime-genai's search options.

    :param greedy: whether to choose the likeliest token whatever the temperature is
    """
    sampled = settings["temperature"] > 0 and not greedy
    chosen = ("repetition_penalty", "temperature", "top_p", "top_k") if sampled else ("repetition_penalty",)
    return {"do_sample": sampled, **{name: settings[name] for name in chosen}}


def check_config(path: Path) -> None:
    """Refuse a config that sets what could load code or read files from elsewhere; other files are not looked at."""
    name = path.name.lower()
    if name == RUNTIME_CONFIG:
        runtime_config(path)
    elif name.endswith(("config.json", "tokenizer_module.json")):
        config = read_object(path)
        for key in config.keys() & set(FOREIGN):
            _refuse(path, key)
        _check_whole(path, config.get("chat_template"))
    elif name == CHAT_TEMPLATE:
        _check_whole(path, path.read_text(encoding="utf-8", errors="replace"))


def _check_whole(path: Path, value: object) -> None:
    """Refuse a chat template, or some of them by their names, that would be cut off."""
    if isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            _check_whole(path, each)
    elif "\0" in str(value):
        raise UserError(f"{shown(path)} has the character U+0000, at which the runtime cuts a text off: {AGAIN}")


def runtime_config(path: Path) -> dict:
    """Return what genai_config.json sets, all of which a package may set.

    :raises UserError: naming the first setting that it may not have
    """
    config = read_object(path)
    _check_settings(config, CONFIG, path, "")
    model = config.get("model")
    length = model.get("context_length") if isinstance(model, dict) else None
    if type(length) is not int or length < 1:
        raise UserError(f"{shown(path)} has no model.context_length: {AGAIN}")
    return config


def _check_settings(value: object, allowed: Allowed, path: Path, where: str) -> None:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict) and isinstance(allowed, dict):
            for key, inner in each.items():
                setting = f"{where}.{key}".removeprefix(".")
                if key not in allowed and ANY not in allowed:
                    _refuse(path, setting)
                _check_settings(inner, allowed[key if key in allowed else ANY], path, setting)
        elif isinstance(allowed, dict) or not allowed(each):
            _refuse(path, where, f" to {each!r}" if isinstance(each, str) else "")


def _refuse(path: Path, setting: str, value: str = "") -> None:
    raise UserError(
        f"{shown(path)} sets {shown(setting)}{value}, which is not among what a package may set, since code or files "
        "from elsewhere could be loaded by it: use only a package whose maker you trust, and tell them"
    )


def main() -> int:
    """Answer one question, or converse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt", nargs="?", help="a question; without one, an interactive chat starts")
    parser.add_argument("--adapter", default=NONE, help="name of an adapter in the package (default: none)")
    parser.add_argument("--package", type=Path, default=Path("packages/cpu"), help="folder (default: packages/cpu)")
    parser.add_argument("--key", type=Path, help="public key, such as signing.pub, that must have signed the package")
    parser.add_argument("--max-new-tokens", type=int, help="tokens an answer may have (default: the adapter's, or 512)")
    parser.add_argument("--free", action="store_true", help="do not hold answers to an adapter's response schema")
    words = parser.parse_args()
    if words.max_new_tokens is not None and words.max_new_tokens < 1:
        parser.error("--max-new-tokens must be at least 1")
    # Answers have letters and emoji that a console's or a pipe's encoding, such as Windows' cp1252, need not have.
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        chat = Chat(words.package, words.max_new_tokens, words.key, words.free)
        chat.switch(words.adapter)
        if words.prompt is None:
            converse(chat)
        elif not answer(chat, words.prompt):
            return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
