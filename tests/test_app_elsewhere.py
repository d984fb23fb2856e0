"""The chat where the tests do not run: on Windows, and on consoles whose encoding does not have all letters."""

import ast
import io
import re
import sys

import pytest
from projects import ROOT

import app
from press.core import paths
from press.release import bundle

# Modules of the standard library that are on every system.
PORTABLE = {
    *("argparse", "collections.abc", "hashlib", "io", "json", "multiprocessing", "multiprocessing.connection", "os"),
    *("pathlib", "re", "signal", "stat", "string", "sys", "time", "typing"),
}
# It runs without this one.
OPTIONAL = {"model_signing.verifying"}
# Names of these modules that only some systems have.
POSIX = re.compile(
    r"\bos\.(fork|kill|mkfifo|getuid|geteuid|chown|getpgid|setsid|nice|wait\w*)\b|\bsignal\.(?!signal\b|SIGINT\b|SIG_IGN\b)"
)
ANSWER = "Flåm is lovely 🍕!"


def test_it_imports_nothing_of_the_pipeline_and_no_module_that_only_some_systems_have():
    tree = ast.parse((ROOT / "app.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names == PORTABLE | OPTIONAL | {"onnxruntime_genai"}
    assert not POSIX.search((ROOT / "app.py").read_text(encoding="utf-8"))


def test_it_reads_packages_as_the_pipeline_does():
    """By the same code, from the first line after the imports to the last."""
    reader = (ROOT / "press/model/packaged.py").read_text(encoding="utf-8").partition("\nAGAIN = ")
    assert f"\n{reader[1].strip()} {reader[2].rstrip()}\n\n\ndef main() " in (ROOT / "app.py").read_text(
        encoding="utf-8"
    )
    assert (app.MANIFEST, app.RUNTIME_CONFIG) == (paths.MANIFEST, paths.RUNTIME_CONFIG)
    assert (app.ADAPTER_MANIFEST, app.SIGNATURE) == (paths.ADAPTER_MANIFEST, paths.SIGNATURE)
    assert sorted(app.BESIDE) == sorted(bundle.BESIDE)


class Parrot:
    """A chat that gives one answer, in pieces, and keeps the questions."""

    def __init__(self, *_: object) -> None:
        self.adapter = None
        self.remarks: list[str] = []
        self.asked: list[str] = []
        type(self).last = self

    def available(self) -> list[str]:
        return ["travel"]

    def switch(self, name: str) -> None:
        self.adapter = name

    def ask(self, question: str):
        self.asked.append(question)
        yield from ANSWER


@pytest.mark.parametrize("words", [["caf\xe9?"], []])
def test_what_a_console_cannot_show_or_read_is_replaced(monkeypatch, words):
    """One that knows only cp1252; what is typed there has a byte that it does not know."""
    shown = io.BytesIO()
    monkeypatch.setattr(app, "Chat", Parrot)
    monkeypatch.setattr(sys, "argv", ["app.py", *words])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="cp1252"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9 \x81?\n"), encoding="cp1252"))
    assert app.main() == 0
    sys.stdout.flush()
    assert ANSWER.replace("🍕", "?").encode("cp1252") in shown.getvalue()
    assert Parrot.last.asked == (words or ["caf\xe9 \ufffd?"])


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain caf\xe9 \U0001f355", "plain caf\xe9 \U0001f355"),
        ("caf\udce9?", "caf\ufffd?"),  # a byte of Latin-1 as an argument
        ("\ud83c\udf55 \ud83c", "\U0001f355 \ufffd"),
    ],
)
def test_what_no_tokenizer_takes_is_replaced(text, seen):
    assert app._whole_characters(text) == seen


class Line:
    """Both ends of a process that answers, unless it fails."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.ended = False

    def is_alive(self) -> bool:
        return not self.ended

    def kill(self) -> None:
        self.ended = True

    def join(self) -> None:
        pass

    def send(self, asked: tuple) -> None:
        if isinstance(self.error, BrokenPipeError):
            raise self.error

    def poll(self, seconds: float) -> bool:
        if self.error:
            raise self.error
        return True

    def recv(self) -> tuple[str, str]:
        return "answer", ""


@pytest.fixture
def asked(monkeypatch):
    """Ask a process that fails, where the next one answers; return the first one, and how the question ended."""

    def asked(error: BaseException) -> tuple[Line, app.Apart]:
        lines = iter([Line(error), Line()])

        def start(self: app.Apart) -> None:
            self._process = self._pipe = next(lines)

        monkeypatch.setattr(app.Apart, "_start", start)
        own = app.Apart(ROOT)
        return own._process, own

    return asked


def test_a_process_that_was_killed_while_it_waited_begins_again(asked):
    _, own = asked(BrokenPipeError())
    assert own.ask(app.TEMPLATE, "[]") == ("answer", "")


@pytest.mark.parametrize("error", [OSError("got end of file during message"), EOFError(), ConnectionResetError()])
def test_a_process_that_ends_while_it_answers_is_a_sentence_and_the_next_one_answers(asked, error):
    first, own = asked(error)
    with pytest.raises(app.UserError, match=r"crashes, or was killed: use only a package whose maker you trust$"):
        own.ask(app.TEMPLATE, "[]")
    assert first.ended
    assert own.ask(app.TEMPLATE, "[]") == ("answer", "")


def test_after_an_interruption_the_next_question_does_not_get_the_last_one_s_answer(asked):
    first, own = asked(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        own.ask(app.TEMPLATE, "[]")
    assert first.ended
    assert own.ask(app.TEMPLATE, "[]") == ("answer", "")
