"""What a model or a person wrote is JSON to every reader, or is refused with the reason."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.data import strict_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3),
    max_leaves=8,
)
TOO_DEEP = "JSON with more than 64 levels of arrays and objects"


@given(VALUES, st.booleans())
def test_what_json_writes_is_read(value, ascii_only):
    assert strict_json.parse(json.dumps(value, ensure_ascii=ascii_only)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 1}}', 'JSON with the name "c" twice in one object'),
        ('{"a": 1, "\\u0061": 2}', 'JSON with the name "a" twice in one object'),
        ("NaN", "not JSON (NaN is no number)"),
        ('{"a": [Infinity]}', "not JSON (Infinity is no number)"),
        ("-Infinity", "not JSON (-Infinity is no number)"),
        ("1e999", "JSON with the number 1e999, which is too large"),
        ("9" * 5000, "JSON with the number 99999999999999999999, which is too large"),
        ('"\\ud83c"', "JSON with half of a surrogate pair, which is no character"),
        ('"a\udc80"', "JSON with half of a surrogate pair, which is no character"),
        ('{"\\udf00": 1}', "JSON with half of a surrogate pair, which is no character"),
        ("[" * 65 + "]" * 65, TOO_DEEP),
        ('{"a":' * 2000 + "1" + "}" * 2000, TOO_DEEP),
        ("[" * 100_000, TOO_DEEP),
        ("\ufeff{}", "not JSON (it begins with a byte order mark, U+FEFF: remove it)"),
        ("", "not JSON (Expecting value at column 1)"),
        ('{"a": 1,\n"b"', "not JSON (Expecting ':' delimiter at line 2 column 4)"),
        ('"a\nb"', "not JSON (Invalid control character at column 3)"),
    ],
    ids=lambda given: given[:20],
)
def test_what_readers_differ_on_is_refused_with_the_reason(text, reason):
    with pytest.raises(ValueError, match="JSON") as caught:
        strict_json.parse(text)
    assert str(caught.value) == reason


def test_what_is_near_a_limit_is_read():
    assert strict_json.parse('"\\ud83c\\udf0d \\\\ud83c"') == "🌍 \\ud83c"
    assert strict_json.parse("[" * 64 + "]" * 64) is not None
    assert strict_json.parse('[{"a": 1}, {"a": 1}]') == [{"a": 1}, {"a": 1}]
    assert math.isfinite(strict_json.parse("1e308"))


@given(VALUES)
def test_a_value_is_the_same_as_itself_in_another_order(value):
    def reordered(one: object) -> object:
        if isinstance(one, dict):
            return {name: reordered(one[name]) for name in reversed(one)}
        return [reordered(each) for each in one] if isinstance(one, list) else one

    assert strict_json.same(value, reordered(value))


@pytest.mark.parametrize(
    ("one", "other"),
    [(True, 1), (0, False), (None, 0), ("1", 1), ([1], [1, 1]), ({"a": 1}, {"a": 1, "b": 1}), ({}, [])],
)
def test_values_that_differ_are_not_the_same(one, other):
    assert not strict_json.same(one, other)
    assert not strict_json.same(other, one)
    assert not strict_json.same({"a": [one]}, {"a": [other]})


def test_one_number_may_be_written_in_two_ways():
    assert strict_json.same(strict_json.parse("[1.0, 1e2]"), strict_json.parse("[1, 100]"))
