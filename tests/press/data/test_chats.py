"""A chat template is a program of who made the model."""

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from press.data import chats


class Tokenizer:
    """As a tokenizer of transformers is, as far as its template is concerned."""

    def __init__(self, template: str) -> None:
        self.chat_template = template

    def apply_chat_template(self, messages: list[dict], chat_template: str, tokenize: bool, **_: object) -> str:
        assert not tokenize
        return ImmutableSandboxedEnvironment().from_string(chat_template).render(messages=messages)


def test_a_template_gives_a_text():
    assert chats.text(Tokenizer("{{ messages[0].content }}!"), [{"role": "user", "content": "hello"}]) == "hello!"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "maximum recursion depth exceeded"),
        ("{{ 1 / 0 }}", "division by zero"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            r"it takes more than 0\.1 s",
        ),
    ],
)
def test_a_template_that_fails_or_never_ends_is_a_sentence(monkeypatch, template, reason):
    monkeypatch.setattr(chats, "SECONDS", 0.1)
    with pytest.raises(ValueError, match=f"^a chat that the base model's chat template does not take: {reason}"):
        chats.text(Tokenizer(template), [])
