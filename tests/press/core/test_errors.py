"""A sentence of which a person can read both ends, whatever it quotes."""

import pytest

from press.core.errors import UserError
from press.core.redaction import LONGEST


@pytest.mark.parametrize("text", ["", "x" * LONGEST, "a sentence"])
def test_what_is_not_long_stays_as_it_is(text):
    assert str(UserError(text)) == text


def test_what_is_long_loses_its_middle_in_each_line():
    sentence = f"data.jsonl line 7: {'x' * 100_000} must be one of a, b"
    shown = str(UserError(f"{sentence}\nand more\n{sentence}")).split("\n")
    assert (
        shown[0] == shown[2] == f"{sentence[:500]} [... {len(sentence) - 1000} more characters ...] {sentence[-500:]}"
    )
    assert shown[0].endswith("must be one of a, b")
    assert shown[1] == "and more"


def test_a_secret_is_not_cut_in_half_and_then_shown():
    address = "https://me:secret@host/x"
    for place in range(480, 501):
        assert "sec" not in str(UserError("x" * place + address + "x" * 1000))


def test_what_would_control_a_terminal_is_shown():
    said = str(UserError("a \x1b[31mred\rline\x00\x9b and\ta tab\nof two"))
    assert said == "a \\x1b[31mred\\rline\\x00\\x9b and\ta tab\nof two"
