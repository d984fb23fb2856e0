"""Chat with a packaged model, bare or with one of its adapters.

    python app.py --adapter travel "how far in advance should i arrive at the airport"
    python app.py                      interactive; /adapter NAME, /adapter none, /reset, /quit

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
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection
from pathlib import Path

import onnxruntime_genai as og

NONE = "none"
HELP = "/adapter NAME (or none), /adapters, /reset, /quit; Ctrl-C stops an answer"
MANIFEST = "manifest.json"
RUNTIME_CONFIG = "genai_config.json"
ADAPTER_MANIFEST = "adapter.json"
SIGNATURE = "model.sig"
# What a release has besides the package's own files.
BESIDE = ("README.md", "gates.json", "metrics.json", "provenance.json", SIGNATURE)
RESPONSE = "{response}"
# How long the chat template may take, which is a program and need not end.
TEMPLATE_SECONDS = 20
NO_TEMPLATE = "Empty chat template"
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

    Without an adapter the model's own chat template keeps the conversation's turns; an adapter is trained on
    single questions, so that each one stands for itself.
    """

    def __init__(self, package: Path, max_new_tokens: int, key: Path | None = None) -> None:
        if _whole_characters(str(package)) != str(package):
            raise UserError(f"the runtime cannot open {shown(package)}, whose name is not in UTF-8: rename it")
        self.package = package
        self.max_new_tokens = max_new_tokens
        self.manifest, _ = open_package(package, BESIDE)
        if key:
            _check_signature(package, key)
        self.context = runtime_config(package / RUNTIME_CONFIG)["model"]["context_length"]
        # It reads the tokenizer's files, too, and so is first to crash.
        self.template = ChatTemplate(package)
        self.model = _load_model(package)
        self.template.wait()
        self.merged: dict[str, og.Model] = {}
        self.tokenizer = og.Tokenizer(self.model)
        self.adapters = og.Adapters(self.model)
        self.templates: dict[str, str] = {}
        self.adapter: str | None = None
        self.turns: list[dict[str, str]] = []
        self.control, self.start = _special_tokens(package / "tokenizer.json")

    def available(self) -> list[str]:
        """Return the names of the package's adapters."""
        return sorted(path.parent.name for path in self.package.glob(f"adapters/*/{ADAPTER_MANIFEST}"))

    def switch(self, name: str) -> None:
        """Activate an adapter, or none, and start a new conversation."""
        if name != NONE and name not in self.templates:
            self._load(name)
        self.adapter = None if name == NONE else name
        self.turns = []

    def ask(self, question: str):
        """Yield the answer piece by piece; afterwards the turn is part of the conversation."""
        question = _whole_characters(question)
        ids = self.prompt(question)
        model = self.merged.get(self.adapter, self.model) if self.adapter else self.model
        params = og.GeneratorParams(model)
        stream = self.tokenizer.create_stream()
        answer = ""
        try:
            params.set_search_options(max_length=min(len(ids) + self.max_new_tokens, self.context), do_sample=False)
            generator = og.Generator(model, params)
            if self.adapter and self.adapter not in self.merged:
                generator.set_active_adapter(self.adapters, self.adapter)
            generator.append_tokens(ids)
            while not generator.is_done():
                generator.generate_next_token()
                piece = stream.decode(generator.get_next_tokens()[0])
                answer += piece
                yield piece
        except RuntimeError as error:
            # Such as of sizes in genai_config.json that are not the graph's, or of memory that is not there.
            raise UserError(f"the model in {self.package} cannot answer ({_line(error)})") from error
        finally:
            self.turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def _load(self, name: str) -> None:
        folder = self.package / "adapters" / name
        if name not in self.available():
            raise UserError(f"there is no adapter {name!r} in {self.package}; it has {', '.join(self.available())}")
        manifest = read_object(folder / ADAPTER_MANIFEST)
        base, mine = (str(each.get("base_sha256"))[:12] for each in (manifest, self.manifest))
        if base != mine:
            raise UserError(
                f"the adapter {name!r} was trained on another base model ({base}) than this package's ({mine})"
            )
        try:
            template = manifest["template"]
            _filled(template, "")
        except (AttributeError, KeyError, ValueError) as error:
            raise UserError(f"{folder / ADAPTER_MANIFEST} is damaged: {AGAIN}") from error
        if manifest.get("merged", False):
            runtime_config(folder / RUNTIME_CONFIG)
            self.merged[name] = _load_model(folder)
        else:
            try:
                self.adapters.load(str(folder / "adapter.onnx_adapter"), name)
            except RuntimeError as error:
                raise UserError(f"the adapter {name!r} cannot be loaded ({_line(error)}): {AGAIN}") from error
        self.templates[name] = template

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
            return list(self.tokenizer.encode(_filled(self.templates[self.adapter], question)))
        prompt = self.template.apply([*self.turns, {"role": "user", "content": question}])
        # A model without a chat template continues a text, which begins as it does in training; templates say how.
        return [*(self.start if prompt is None else []), *self.tokenizer.encode(question if prompt is None else prompt)]


class ChatTemplate:
    """A package's chat template, in a process of its own: it is a program, which may crash or never end."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_apply_template, args=(theirs, str(self.package)), daemon=True)
        self._process.start()
        theirs.close()

    def wait(self) -> None:
        """Wait for the process to have read the template and the tokenizer.

        :raises UserError: if it cannot, or crashes
        """
        _, reason = self._answer()
        if reason:
            raise UserError(f"the tokenizer of {self.package} cannot be loaded ({reason}): {AGAIN}")

    def apply(self, messages: list[dict[str, str]]) -> str | None:
        """Return the text that the model is given for a conversation, or None if there is no template.

        :raises UserError: if the template refuses the conversation, crashes or takes too long
        """
        if not self._process.is_alive():
            self._start()
            self.wait()
        self._pipe.send(json.dumps(messages))
        prompt, reason = self._answer()
        if reason and not reason.startswith(NO_TEMPLATE):
            raise UserError(f"the chat template of {self.package} cannot be applied ({reason})")
        return prompt

    def _answer(self) -> tuple[str | None, str]:
        try:
            if self._pipe.poll(TEMPLATE_SECONDS):
                return self._pipe.recv()
            how = f"takes more than {TEMPLATE_SECONDS} s"
        except (EOFError, ConnectionError):
            how = "crashes"
        self._process.kill()
        self._process.join()
        raise UserError(f"the chat template of {self.package} {how}: use only a package whose maker you trust")


def _apply_template(asked: Connection, package: str) -> None:
    """Answer each conversation with its text and what went wrong, until the program ends."""
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
            asked.send((tokenizer.apply_chat_template(asked.recv(), add_generation_prompt=True), ""))
        except RuntimeError as error:
            asked.send((None, _line(error)))
        except EOFError:
            return


def _filled(template: str, question: str) -> str:
    """Return an adapter's template up to the answer, with the question for whatever field it names."""
    before, _ = template.split(RESPONSE)
    return "".join(text + question * (name is not None) for text, name, *_ in string.Formatter().parse(before))


def _whole_characters(text: str) -> str:
    """Replace what a tokenizer cannot take: halves of a character, as of bytes that no letter has."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


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
    **dict.fromkeys(
        ("head_size", "hidden_size", "num_attention_heads", "num_hidden_layers", "num_key_value_heads"), _number
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
    found = {}
    for parent, folders, names in os.walk(folder, onerror=_failed):
        here = Path(parent)
        if here != folder and not folders and not names:
            found[f"{here.relative_to(folder).as_posix()}/"] = here
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
        found |= {(here / name).relative_to(folder).as_posix(): here / name for name in names}
    return dict(sorted(found.items()))


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
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_once)
        # An escape may stand for half of a character, which no tokenizer takes.
        json.dumps(value, ensure_ascii=False).encode()
    except FileNotFoundError as error:
        raise UserError(f"{shown(path)} is missing: {AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown(path)} is damaged: {AGAIN}") from error
    if not isinstance(value, dict):
        raise UserError(f"{shown(path)} is damaged: {AGAIN}")
    return value


def _each_once(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def check_config(path: Path) -> None:
    """Refuse a config that sets what could load code or read files from elsewhere; other files are not looked at."""
    name = path.name.lower()
    if name == RUNTIME_CONFIG:
        runtime_config(path)
    elif name.endswith(("config.json", "tokenizer_module.json")):
        for key in read_object(path).keys() & set(FOREIGN):
            _refuse(path, key)


def runtime_config(path: Path) -> dict:
    """Return what genai_config.json sets, all of which a package may set.

    :raises UserError: naming the first setting that it may not have
    """
    config = read_object(path)
    _check_settings(config, CONFIG, path, "")
    model = config.get("model")
    length = model.get("context_length") if isinstance(model, dict) else None
    if not isinstance(length, int) or length < 1:
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
    parser.add_argument("--max-new-tokens", type=int, default=512, help="tokens an answer may have (default: 512)")
    words = parser.parse_args()
    if words.max_new_tokens < 1:
        parser.error("--max-new-tokens must be at least 1")
    # Answers have letters and emoji that a console's or a pipe's encoding, such as Windows' cp1252, need not have.
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        chat = Chat(words.package, words.max_new_tokens, words.key)
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
