"""Dictionaries of dictionaries: their leaves, their order, and what is laid over them."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.core import nested

# Keys of params.yaml have no dots.
VALUES = st.recursive(
    st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda children: st.dictionaries(st.text("abc", min_size=1, max_size=2), children, max_size=3),
    max_leaves=8,
)
BLOCKS = st.dictionaries(st.text("abc", min_size=1, max_size=2), VALUES, max_size=3)


def test_leaves_are_named_by_their_path_and_an_empty_block_is_one():
    values = {"a": {"b": 1, "c": {"d": [1]}}, "e": {}, "f": None}
    assert nested.flat(values) == {"a.b": 1, "a.c.d": [1], "e": {}, "f": None}


@given(BLOCKS)
def test_leaves_put_back_in_their_places_give_the_values(values):
    built: dict = {}
    for name, value in nested.flat(values).items():
        nested.put(built, name.split("."), value)
        assert nested.at(built, name.split(".")) == value
    assert built == values


def test_what_is_not_there_is_a_key_error():
    with pytest.raises(KeyError, match="c"):
        nested.at({"a": {"b": 1}}, ["a", "c"])


def test_keys_are_sorted_at_every_depth_and_lists_keep_their_order():
    turned = {"b": [{"d": 1, "c": 2}, 0], "a": {"z": 1, "y": {}}}
    assert repr(nested.in_order(turned)) == "{'a': {'y': {}, 'z': 1}, 'b': [{'c': 2, 'd': 1}, 0]}"


@given(BLOCKS)
def test_the_order_changes_no_value(values):
    assert nested.in_order(values) == values


def test_blocks_are_merged_and_all_else_is_replaced():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 0}
    assert nested.overlay(base, {"a": {"c": [3]}, "d": 2, "f": {"g": 1}, "h": None}) == {
        "a": {"b": 1, "c": [3]},
        "d": 2,
        "f": {"g": 1},
        "h": None,
    }


def test_a_block_that_is_one_value_is_replaced():
    base = {"a": {"b": {"c": 1}, "d": {"e": 1}}, "b": {"c": 1}}
    changes = {"a": {"b": {"f": 2}, "d": {"f": 2}}, "b": {"f": 2}}
    assert nested.overlay(base, changes, lambda path: path == ("a", "b")) == {
        "a": {"b": {"f": 2}, "d": {"e": 1, "f": 2}},
        "b": {"c": 1, "f": 2},
    }


@given(BLOCKS, BLOCKS)
def test_what_is_laid_over_is_there_afterwards_and_laying_it_again_changes_nothing(values, changes):
    given = copy.deepcopy(changes)
    laid = nested.overlay(copy.deepcopy(values), changes)
    for name, value in nested.flat(changes).items():
        if value != {}:
            assert nested.at(laid, name.split(".")) == value
    assert changes == given
    assert nested.overlay(copy.deepcopy(laid), changes) == laid
