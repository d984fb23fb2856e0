"""What an adapter says nothing about, the base model's generation config does; and how that is called."""

import pytest

from press.core import files
from press.core.errors import UserError
from press.model import decoding, packaged

NOTHING = {"temperature": None, "top_p": None, "top_k": None, "repetition_penalty": None}
OWN = {**NOTHING, "max_new_tokens": 160, "stop": []}
SAMPLED = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.1}


def of(own, base, folder):
    if base is not None:
        files.write_json(folder / "generation_config.json", base)
    return decoding.settings(own, folder, "adapters.travel.generation")


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (None, (0.0, 1.0, 50, 1.0)),
        ({"eos_token_id": 2}, (0.0, 1.0, 50, 1.0)),
        (SAMPLED, (0.6, 0.95, 20, 1.1)),
        # What only matters to those who sample does not make a base sample.
        (SAMPLED | {"do_sample": False}, (0.0, 0.95, 20, 1.1)),
        ({"do_sample": True, "temperature": None}, (1.0, 1.0, 50, 1.0)),
    ],
)
def test_the_base_s_own_settings_stand_in_for_each_null(tmp_path, base, expected):
    found = of(OWN, base, tmp_path)
    assert tuple(found[name] for name in NOTHING) == expected
    assert (found["max_new_tokens"], found["stop"]) == (160, [])


def test_an_adapter_s_own_settings_come_first(tmp_path):
    own = {"temperature": 0.0, "top_p": 0.5, "top_k": 3, "repetition_penalty": 1.2, "max_new_tokens": 9, "stop": ["."]}
    assert of(own, SAMPLED, tmp_path) == own


def test_a_base_whose_settings_are_none_is_said_with_what_helps(tmp_path):
    with pytest.raises(UserError) as caught:
        of(OWN, SAMPLED | {"top_p": 7}, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'generation_config.json'}: top_p is 7, but must be a number from 0.001 to 1; "
        "give adapters.travel.generation a value of its own"
    )
    assert of(OWN | {"top_p": 0.9}, SAMPLED | {"top_p": 7}, tmp_path)["top_p"] == 0.9


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temperature": 0.7, "max_new_tokens": 160}, "greedy, repetition_penalty 1.0, at most 160 tokens"),
        (
            {"repetition_penalty": 1.25, "stop": ["\n", "a"]},
            "greedy, repetition_penalty 1.25, at most 512 tokens, up to '\\n', up to 'a'",
        ),
    ],
)
def test_settings_in_words_are_those_of_the_measure(given, words):
    assert decoding.words(packaged.generation(given)) == words


@pytest.mark.parametrize(
    ("stops", "cut"), [([], "one. two."), (["."], "one"), (["two", " "], "one."), (["three"], "one. two.")]
)
def test_an_answer_ends_before_the_first_of_its_stop_texts(stops, cut):
    assert decoding.cut("one. two.", stops) == cut
