"""What guidance costs is counted in processor time, in which other load does not show."""

import time
from types import SimpleNamespace

from bench import guidance


class Waiting:
    """A generator that computes as long at each token, and waits for a core much longer."""

    def __init__(self, *_: object) -> None:
        self.left = 3

    def is_done(self) -> bool:
        return self.left == 0

    def generate_next_token(self) -> None:
        self.left -= 1
        time.sleep(0.3)
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass

    def __getattr__(self, name: str) -> object:
        return lambda *_, **__: None


def test_waiting_for_a_core_is_no_cost(monkeypatch):
    monkeypatch.setattr(guidance, "og", SimpleNamespace(GeneratorParams=Waiting, Generator=Waiting))
    chat = SimpleNamespace(prompt=lambda _: [1], model=None, adapters=None, adapter=None)
    first, token = guidance.answer(chat, None, 3)
    for seconds in (first, token):
        assert 0.02 <= seconds < 0.1


def test_the_table_has_each_schema_beside_the_free_answer(monkeypatch, capsys):
    """Medians of the rounds, behind a first answer that reads the vocabulary."""
    chat = SimpleNamespace(manifests={"packing": {"response_schema": None}})
    monkeypatch.setattr(guidance, "load", lambda *_: chat)
    properties = {None: 0, 2: 2, 200: 200, 1000: 1000}
    found = iter([9.0, 1.0])

    def answer(_: object, held_to: dict | None, tokens: int) -> tuple[float, float]:
        size = properties[held_to and len(held_to["properties"])]
        return (next(found), 0.0) if tokens == 2 else (0.5 + size / 1000, 0.01 + size / 1e5)

    monkeypatch.setattr(guidance, "answer", answer)
    guidance.main(["--rounds", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "reading the vocabulary, once: 8.00 s"
    assert lines[-4:] == [
        "| free | 0.500 | 1.00 | 10.0 | 1.00 |",
        "| small | 0.502 | 1.00 | 10.0 | 1.00 |",
        "| 200 properties | 0.700 | 1.40 | 12.0 | 1.20 |",
        "| 1000 properties | 1.500 | 3.00 | 20.0 | 2.00 |",
    ]
