"""A chat template is a program of who made the model."""

import pytest

from press.core import apart
from press.core.errors import UserError
from press.data import chats


class Tokenizer:
    """As a tokenizer of transformers is, as far as its template is concerned."""

    special_tokens_map = {"eos_token": "</s>"}

    def __init__(self, template: str) -> None:
        self._template = template

    def get_chat_template(self, tools: list[dict] | None) -> str:
        assert tools is None
        return self._template


def test_a_template_gives_a_text():
    assert (
        chats.text(Tokenizer("{{ messages[0].content }}{{ eos_token }}"), [{"role": "user", "content": "hello"}])
        == "hello</s>"
    )


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "maximum recursion depth exceeded"),
        ("{{ 1 / 0 }}", "division by zero"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            r"it takes more than 0\.1 s",
        ),
        ("a{{ '\\ud83d' }}", "half of a surrogate pair, which is no character"),
        ("{{ '\\x00' }}", r"the character U\+0000, at which a device cuts a text off"),
    ],
)
def test_a_template_that_fails_or_never_ends_is_a_sentence(monkeypatch, template, reason):
    monkeypatch.setattr(chats, "SECONDS", 0.1)
    with pytest.raises(ValueError, match=f"^a chat that the base model's chat template does not take: {reason}"):
        chats.text(Tokenizer(template), [])


@pytest.mark.integration
@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ 9**(9**9) }}", "it takes more than 1 s"),
        ("{{ 1|round(10**9, 'ceil') }}", "it takes more than 1 s"),
        ("{{ ('a' * 10**10)|length }}", "MemoryError"),
        ("{{ 'a'|center(10**10) }}", "MemoryError"),
    ],
)
def test_an_operation_that_nothing_interrupts_is_ended(monkeypatch, template, reason):
    own = apart.Apart(chats.renderer, seconds=1)
    monkeypatch.setattr(chats, "RENDER", own)
    with pytest.raises((UserError, ValueError), match=reason):
        chats.text(Tokenizer(template), [])
    assert chats.text(Tokenizer("{{ 1 + 1 }}"), []) == "2"
    own.close()


def test_chats_are_rendered_together_and_each_is_told_what_is_wrong_with_it():
    """Those that end alike go through the template in one call, which fails as a whole."""
    template = (
        "{{ messages[0].content }}{{ 1 // messages[0].content|length }}{% if add_generation_prompt %}?{% endif %}"
    )
    said = [[{"role": "user", "content": text}] for text in ("a", "", "b", "cc")]
    asked = [chats.Asked(messages, asks=asks) for messages in said for asks in (False, True)]
    found = chats.texts(Tokenizer(template), asked)
    assert [str(each).removeprefix("a chat that the base model's chat template does not take: ") for each in found] == [
        "a1", "a1?", *["integer division or modulo by zero"] * 2, "b1", "b1?", "cc0", "cc0?",
    ]  # fmt: skip


def test_chats_with_other_tools_are_rendered_apart():
    template = "{% for tool in tools or [] %}{{ tool.name }}{% endfor %}{{ messages[0].content }}"

    class WithTools(Tokenizer):
        def get_chat_template(self, tools: list[dict] | None) -> str:
            return template

    asked = [
        chats.Asked([{"role": "user", "content": name}], [{"name": tool}] * bool(tool))
        for name, tool in (("a", "x"), ("b", "y"), ("c", ""), ("d", "x"))
    ]
    assert chats.texts(WithTools(""), asked) == ["xa", "yb", "c", "xd"]
