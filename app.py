"""Chat with a packaged model, bare or with one of its adapters.

    python app.py --adapter travel "what is the best thing to see in chicago"
    python app.py                      interactive; /adapter NAME, /adapter none, /reset, /quit

Needs a package folder and onnxruntime-genai, nothing else.
"""

import argparse
import hashlib
import io
import json
import sys
import time
from pathlib import Path

import onnxruntime_genai as og

NONE = "none"
HELP = "/adapter NAME (or none), /adapters, /reset, /quit; Ctrl-C stops an answer"


class ChatError(Exception):
    """What the user asked for cannot be done; the message is one sentence that says why."""


class Chat:
    """A packaged model in a conversation.

    Without an adapter the model's own chat template keeps the conversation's turns; an adapter is trained on
    single questions, so that each one stands for itself.
    """

    def __init__(self, package: Path, max_new_tokens: int) -> None:
        self.package = package
        self.max_new_tokens = max_new_tokens
        self.manifest = _read_json(package / "manifest.json")
        self.context = _read_json(package / "genai_config.json")["model"]["context_length"]
        self.model = _load_model(package)
        self.merged: dict[str, og.Model] = {}
        self.tokenizer = og.Tokenizer(self.model)
        self.adapters = og.Adapters(self.model)
        self.templates: dict[str, str] = {}
        self.adapter: str | None = None
        self.turns: list[dict[str, str]] = []
        added = json.loads((package / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        self.control = {token["id"]: token["content"] for token in added if token["special"]}

    def available(self) -> list[str]:
        """Return the names of the package's adapters."""
        return sorted(path.parent.name for path in self.package.glob("adapters/*/adapter.json"))

    def switch(self, name: str) -> None:
        """Activate an adapter, or none, and start a new conversation."""
        if name != NONE and name not in self.templates:
            self._load(name)
        self.adapter = None if name == NONE else name
        self.turns = []

    def ask(self, question: str):
        """Yield the answer piece by piece; afterwards the turn is part of the conversation."""
        ids = self.prompt(question)
        model = self.merged.get(self.adapter, self.model) if self.adapter else self.model
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=min(len(ids) + self.max_new_tokens, self.context), do_sample=False)
        generator = og.Generator(model, params)
        if self.adapter and self.adapter not in self.merged:
            generator.set_active_adapter(self.adapters, self.adapter)
        generator.append_tokens(ids)
        stream = self.tokenizer.create_stream()
        answer = ""
        try:
            while not generator.is_done():
                generator.generate_next_token()
                piece = stream.decode(generator.get_next_tokens()[0])
                answer += piece
                yield piece
        finally:
            self.turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def _load(self, name: str) -> None:
        folder = self.package / "adapters" / name
        if name not in self.available():
            raise ChatError(f"there is no adapter {name!r} in {self.package}; it has {', '.join(self.available())}")
        manifest = _read_json(folder / "adapter.json")
        if manifest["base_sha256"] != self.manifest["base_sha256"]:
            raise ChatError(
                f"the adapter {name!r} was trained on another base model ({manifest['base_sha256'][:12]}) than this "
                f"package's ({self.manifest['base_sha256'][:12]})"
            )
        merged = manifest.get("merged", False)
        digests = manifest["files"] if merged else {"adapter.onnx_adapter": manifest["file_sha256"]}
        for file, digest in digests.items():
            if not (folder / file).exists() or _sha256(folder / file) != digest:
                raise ChatError(f"{folder / file} is missing or damaged: copy the package again")
        if merged:
            self.merged[name] = _load_model(folder)
        else:
            self.adapters.load(str(folder / "adapter.onnx_adapter"), name)
        self.templates[name] = manifest["template"]

    def prompt(self, question: str) -> list[int]:
        """Return the prompt's token ids, with as many earlier turns as the context takes."""
        self._check(question, "the question", "write it otherwise")
        for turn in self.turns:
            self._check(turn["content"], "an earlier turn", "/reset starts a new conversation")
        while True:
            ids = self.tokenizer.encode(self._text(question))
            if len(ids) < self.context:
                return ids
            if not self.turns:
                raise ChatError(f"the question has {len(ids)} tokens, but the model's context only {self.context}")
            self.turns = self.turns[2:]

    def _check(self, text: str, what: str, remedy: str) -> None:
        """Refuse a text that the model would read as something else than what stands there."""
        if "\0" in text:
            raise ChatError(f"{what} has the character U+0000, which would cut it off: {remedy}")
        for token in self.tokenizer.encode(text):
            if token in self.control:
                name = self.control[token]
                raise ChatError(f"{what} has {name!r}, which the model would read as a control token: {remedy}")

    def _text(self, question: str) -> str:
        if self.adapter:
            before, _ = self.templates[self.adapter].split("{response}")
            return before.format_map(_Everywhere(question))
        messages = [*self.turns, {"role": "user", "content": question}]
        return self.tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True)


class _Everywhere(dict):
    """Give the question for whatever field a template names."""

    def __init__(self, question: str) -> None:
        super().__init__()
        self.question = question

    def __missing__(self, key: str) -> str:
        return self.question


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
        except ChatError as error:
            print(f"error: {error}", file=sys.stderr)


def _load_model(folder: Path) -> og.Model:
    try:
        return og.Model(str(folder))
    except RuntimeError as error:
        raise ChatError(f"the model in {folder} cannot be loaded ({error}): copy the package again") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ChatError(
            f"{path} is missing: --package must name a package folder, as `make repro` builds it"
        ) from error
    except ValueError as error:
        raise ChatError(f"{path} is damaged: copy the package again") from error


def main() -> int:
    """Answer one question, or converse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt", nargs="?", help="a question; without one, an interactive chat starts")
    parser.add_argument("--adapter", default=NONE, help="name of an adapter in the package (default: none)")
    parser.add_argument("--package", type=Path, default=Path("packages/cpu"), help="folder (default: packages/cpu)")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="tokens an answer may have (default: 512)")
    words = parser.parse_args()
    if words.max_new_tokens < 1:
        parser.error("--max-new-tokens must be at least 1")
    # Answers have letters and emoji that a console's or a pipe's encoding, such as Windows' cp1252, need not have.
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        chat = Chat(words.package, words.max_new_tokens)
        chat.switch(words.adapter)
        if words.prompt is None:
            converse(chat)
        elif not answer(chat, words.prompt):
            return 130
    except ChatError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
