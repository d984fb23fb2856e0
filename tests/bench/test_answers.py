"""What answers to unseen prompts are worth is counted as it is said."""

import pytest

from bench import answers

SCHEMA = {
    "type": "object",
    "required": ["days"],
    "properties": {"days": {"type": "integer"}, "documents": {"type": "array"}},
}


def test_shares_are_of_all_answers():
    right = ['{"days": 2}'] * 4
    given = [
        ('{"days": 2, "documents": ["passport", "visa"]}', True),
        ('{"days": 3, "documents": ["visa", "visa"]}', True),
        ('{"days": 2, "days": 2}', True),
        ("so so so so so so so so so so so so so so so so so so so so", False),
    ]
    assert answers.shares(given, right, SCHEMA) == {
        "valid": 0.5,
        "ended": 0.75,
        "looping": 0.25,
        "an item twice in a list": 0.25,
        "right days": 0.25,
    }


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ('["a", "a"]', True),
        ('{"of": {"them": [1, 2, 1.0]}}', True),
        ('[["a"], ["a"]]', True),
        ('[1, true, "1"]', False),
        ("[", False),
    ],
)
def test_an_item_twice_in_a_list_is_found_however_deep(text, twice):
    assert answers.repeats(text) is twice
