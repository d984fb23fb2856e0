"""Thoughts are parted from an answer, however both come in pieces."""

import itertools

import hypothesis
import pytest
from hypothesis import strategies

from press.serve.reasoning import Thought, parted

PARTS = strategies.lists(strategies.sampled_from(["<", "th", "ink>", "/", "a", " ", "\n", "<think>", "</think>", ""]))


def told(pieces: list[str], begun: bool = False) -> tuple[str, str]:
    """Return the thoughts and the answer of pieces."""
    found = list(parted(iter(pieces), begun))
    thoughts = [each for each in found if isinstance(each, Thought)]
    # All thoughts come first.
    assert [each for each in found if each][: len([each for each in thoughts if each])] == [e for e in thoughts if e]
    return "".join(thoughts), "".join(each for each in found if not isinstance(each, Thought))


@pytest.mark.parametrize(
    ("text", "begun", "expected"),
    [
        ("<think>\nwhy a < b\n\n</think>\n\nyes", False, ("why a < b", "yes")),
        ("<think>\n\n</think>\n\n{}", False, ("", "{}")),
        ("\n<think>so</think>yes <think>", False, ("so", "yes <think>")),
        ("well\n</think>\n\nyes", True, ("well", "yes")),
        ("well, and so on", True, ("well, and so on", "")),
        ("<think>cut </thin", False, ("cut </thin", "")),
        ("<think>a</think>", False, ("a", "")),
        ("<thin", False, ("", "<thin")),
        ("  yes", False, ("", "  yes")),
        ("no <think>a</think>", False, ("", "no <think>a</think>")),
        ("", False, ("", "")),
    ],
)
def test_thoughts_and_answer(text, begun, expected):
    assert told(list(text), begun) == told([text], begun) == expected


@hypothesis.given(PARTS, strategies.booleans())
def test_it_does_not_matter_where_the_pieces_end(pieces, begun):
    assert told(pieces, begun) == told(list("".join(pieces)), begun) == told(["".join(pieces)], begun)


def test_there_is_an_item_for_each_piece_so_that_each_is_a_turn():
    pieces = ["", "<think>", "\n", "a", " b", "</think>", "\n\n", "yes", "!"]
    found = [*itertools.islice(parted(iter(pieces), False), 20)]
    assert found == ["", "", "", "a", " b", "", "", "yes", "!"]
