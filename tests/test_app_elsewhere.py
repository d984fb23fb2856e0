"""The chat where the tests do not run: on Windows, and on consoles whose encoding does not have all letters."""

import ast
import io
import sys

import pytest
from projects import ROOT

import app

# Modules of the standard library that are on every system.
PORTABLE = {"argparse", "hashlib", "io", "json", "pathlib", "sys", "time"}
ANSWER = "Flåm is lovely 🍕!"


def test_it_imports_nothing_of_the_pipeline_and_no_module_that_only_some_systems_have():
    tree = ast.parse((ROOT / "app.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names == PORTABLE | {"onnxruntime_genai"}


class Parrot:
    """A chat that gives one answer, in pieces, and keeps the questions."""

    def __init__(self, *_: object) -> None:
        self.adapter = None
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
