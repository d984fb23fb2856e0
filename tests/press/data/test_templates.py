"""Templates split a line into what the model reads and what it writes."""

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from press.data import templates

names = st.text(string.ascii_lowercase, min_size=1, max_size=5).filter(lambda name: name != templates.RESPONSE)
# Texts may have braces and the word itself, which must come out as they are.
texts = st.lists(st.sampled_from(["{", "}", "a", "\n", "<|im_end|>", "é", "response", "{prompt}"]), max_size=4).map(
    "".join
)


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


@st.composite
def templates_with_values(draw) -> tuple[str, dict[str, str]]:
    given_names = draw(st.lists(names, min_size=1, max_size=3))
    parts = [escaped(draw(texts)) + f"{{{name}}}" for name in [*given_names, templates.RESPONSE]]
    values = {name: draw(texts) for name in [*given_names, templates.RESPONSE]}
    return "".join(parts) + escaped(draw(texts)), values


def test_fields_are_named_in_their_order_and_doubled_braces_are_none():
    assert templates.fields("{{a}} {b} {response}{{") == ["b", "response"]
    assert templates.fields("") == []


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{prompt", "template is malformed (expected '}' before end of string); write {{ and }} for plain braces"),
        ("{prompt!r}", "template may name fields only as {field}, without a format or conversion"),
        ("{prompt:5}", "template may name fields only as {field}, without a format or conversion"),
    ],
)
def test_a_malformed_template_is_refused_with_the_reason(template, reason):
    with pytest.raises(ValueError, match="template") as caught:
        templates.fields(template)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    "template",
    ["{response}", "{response}{prompt}", "{prompt}", "{prompt}{response}{response}", "{p}{{response}}{response}"],
)
def test_the_response_must_be_named_once_and_last(template):
    with pytest.raises(
        ValueError, match=r"must name \{response\} once, as its last field, after at least one other field"
    ):
        templates.check_template(template)


@pytest.mark.parametrize("template", ["{}{response}", "{0}{response}", "{a.b}{response}", "{a[0]}{response}"])
def test_a_field_must_be_a_name(template):
    with pytest.raises(ValueError, match="which is not a name"):
        templates.check_template(template)


def test_a_template_with_a_null_character_is_refused():
    with pytest.raises(ValueError, match=r"template has the character U\+0000"):
        templates.check_template("a\0{prompt}{response}")


def test_a_template_s_own_texts_are_those_between_its_fields():
    assert templates.literals("{{q}} {a}{b}: {response}{{<|im_end|>") == ["{q} ", "", ": ", "{<|im_end|>"]


def test_rendering_splits_before_the_answer_and_undoubles_braces():
    template = "{{q}} {prompt}\n{{{response}}}<|im_end|>"
    templates.check_template(template)
    values = {"prompt": "{why}", "response": "so {it} is"}
    assert templates.render(template, values) == ("{q} {why}\n{", "so {it} is}<|im_end|>")


@given(templates_with_values())
def test_the_parts_joined_are_the_formatted_template(drawn):
    template, values = drawn
    try:
        templates.check_template(template)
    except ValueError:
        assert "{{response}}" in template
        return
    before, completion = templates.render(template, values)
    assert before + completion == template.format(**values)
    assert templates.answer(template, completion) == values[templates.RESPONSE]


@given(templates_with_values())
def test_what_the_fields_put_into_a_prompt_is_found_again(made):
    template, values = made
    # The others are refused, as above.
    assume(template.count("{response}") == 1)
    names = templates.fields(template)[:-1]
    prompt, _ = templates.render(template, values)
    first, last = values[names[0]], values[names[-1]]
    found = templates.given(template, prompt)
    assert found.startswith(first)
    assert found.endswith(last)
    assert len(names) > 1 or found == first
