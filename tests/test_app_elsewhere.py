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
