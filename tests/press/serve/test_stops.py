"""A stream ends where the whole answer is cut."""

import hypothesis
from hypothesis import strategies

from press.model import decoding
from press.serve.stops import before

LETTERS = strategies.text("ab", max_size=4)


@hypothesis.given(strategies.lists(LETTERS, max_size=12), strategies.lists(LETTERS.filter(bool), max_size=3))
@hypothesis.example(["ab", "a"], ["b", "aba"])
def test_pieces_make_what_the_whole_answer_is_cut_to(pieces, stops):
    assert "".join(before(iter(pieces), stops)) == decoding.cut("".join(pieces), stops)


def test_there_is_an_item_for_each_piece_so_that_each_is_a_turn():
    assert list(before(iter(["", "a", "x", "y", "b"]), ["xz"])) == ["", "a", "", "xy", "b"]


def test_no_piece_is_asked_for_behind_a_stop_text():
    pieces = iter(["a", "<e", "nd>b", "c"])
    assert "".join(before(pieces, ["<end>"])) == "a"
    assert list(pieces) == ["c"]
