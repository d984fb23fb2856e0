"""Records of preferences, in each form that data sets of the hub have, and what is refused."""

from typing import Any

import pytest

from press.data import formats, preferences
from press.data.formats import Chat

TEMPLATE = ("prompt", "response")


def said(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


QUESTION, YES, NO = said("user", "Is it cold?"), said("assistant", "Yes."), said("assistant", "No.")
SYSTEM = said("system", "Be short.")
FORMS = {
    "texts": {"prompt": "Is it cold?", "chosen": "Yes.", "rejected": "No."},
    "messages": {"prompt": [QUESTION], "chosen": [YES], "rejected": [NO]},
    "answers": {"prompt": "Is it cold?", "chosen": [YES], "rejected": [NO]},
    "a chat and texts": {"prompt": [QUESTION], "chosen": "Yes.", "rejected": "No."},
    "whole chats": {"chosen": [QUESTION, YES], "rejected": [QUESTION, NO]},
    "whole chats with their prompt": {
        "prompt": "Is it cold?",
        "chosen": [QUESTION, YES],
        "rejected": [QUESTION, NO],
        "score_chosen": 8.5,
    },
}


def pair(record: dict[str, Any], template: tuple[str, ...] = (), **fields: str) -> preferences.Pair:
    return preferences.Reading(template, fields).pair(record)


def complaint(record: dict[str, Any], template: tuple[str, ...] = (), **fields: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        pair(record, template, **fields)
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_say_the_same(form):
    assert pair(FORMS[form]) == (Chat([QUESTION, YES]), Chat([QUESTION, NO]))
    fields = {"prompt": "Is it cold?"}
    assert pair(FORMS[form], TEMPLATE) == ({**fields, "response": "Yes."}, {**fields, "response": "No."})


@pytest.mark.parametrize("form", FORMS)
def test_a_system_prompt_is_kept(form):
    assert pair({**FORMS[form], "system": "Be short."}) == (Chat([SYSTEM, QUESTION, YES]), Chat([SYSTEM, QUESTION, NO]))


def test_several_turns_and_tools_are_kept():
    tools, more = [{"name": "thermometer"}], said("user", "And now?")
    record = {
        "chosen": [SYSTEM, QUESTION, YES, more, NO],
        "rejected": [SYSTEM, QUESTION, YES, more, YES],
        "tools": tools,
    }
    assert pair(record) == (Chat(record["chosen"], tools), Chat(record["rejected"], tools))


def test_fields_may_have_other_names():
    record = {"question": "Is it cold?", "best": "Yes.", "worst": "No."}
    assert pair(record, prompt="question", chosen="best", rejected="worst") == pair(FORMS["texts"])
    assert complaint({"best": "Yes."}, chosen="best", rejected="worst").startswith("no field 'worst'")


def test_a_template_of_other_fields_is_filled():
    record = {"place": "Oslo", "month": "May", "chosen": "Yes.", "rejected": "No."}
    own = {"place": "Oslo", "month": "May"}
    assert pair(record, ("place", "month", "response")) == ({**own, "response": "Yes."}, {**own, "response": "No."})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"chosen": "No."}, "chosen and rejected are the same, so that nothing is preferred"),
        ({"chosen": ""}, "field 'chosen' is \"\", not a non-empty string"),
        ({"rejected": "  "}, "field 'rejected' is \"  \", not a non-empty string"),
        ({"rejected": None}, "field 'rejected' is null, not a non-empty string"),
        ({"rejected": []}, "field 'rejected' is [], not a non-empty string"),
        ({"rejected": 5}, "field 'rejected' is 5, not a non-empty string"),
        ({"prompt": ""}, "field 'prompt' is \"\", not a non-empty string"),
        ({"prompt": {"a": 1}}, "field 'prompt' is {\"a\": 1}, not a non-empty string"),
        ({"prompt": ["a"]}, 'chosen: message 1 is "a", not an object'),
        ({"chosen": ["a"]}, 'chosen: message 1 is "a", not an object'),
        ({"chosen": [said("assistant", "")]}, "chosen: message 2 has no content"),
        ({"chosen": [QUESTION]}, "chosen: the last message is the user's, but there must be an answer to learn"),
        (
            {"prompt": 7, "chosen": [QUESTION, YES], "rejected": [QUESTION, NO]},
            "field 'prompt' is neither a text nor a list of messages",
        ),
        (
            {"chosen": [said("user", "Is it hot?"), YES]},
            "field 'prompt' is not said in 'chosen', which has a whole chat: leave one of them out",
        ),
        (
            {"prompt": [said("user", "Is it hot?")], "chosen": [QUESTION, YES]},
            "field 'prompt' is not said in 'chosen', which has a whole chat: leave one of them out",
        ),
        (
            {"chosen": [YES, QUESTION, YES]},
            "chosen and rejected part at message 2: they may differ in their last answers only",
        ),
        (
            {"rejected": [SYSTEM, QUESTION, NO]},
            "chosen and rejected part at message 1: they may differ in their last answers only",
        ),
        ({"system": 5}, "field 'system' is 5, not a string"),
        ({"tools": 5}, "chosen: tools that are 5, not a list of objects"),
    ],
)
def test_what_is_no_preference_is_refused(change, sentence):
    assert complaint({**FORMS["texts"], **change}) == sentence


@pytest.mark.parametrize("template", [(), TEMPLATE])
@pytest.mark.parametrize("name", ["prompt", "chosen", "rejected"])
def test_a_missing_field_is_named(name, template):
    record = {key: value for key, value in FORMS["texts"].items() if key != name}
    assert complaint(record, template).startswith(f"no field '{name}', ")


def test_whole_chats_in_a_template_must_have_one_prompt():
    record = {"chosen": [QUESTION, YES], "rejected": [said("user", "Is it hot?"), NO]}
    assert complaint(record, TEMPLATE) == "chosen and rejected answer different prompts"


@pytest.mark.parametrize("template", [(), TEMPLATE])
def test_who_learns_answers_is_told_what_pairs_are_for(template):
    with pytest.raises(ValueError, match=r"^pairs of answers, chosen and rejected, .* training.objective dpo$"):
        formats.guess(FORMS["texts"], template, {})


def test_pairs_beside_a_chat_may_be_left_alone():
    assert formats.guess({**FORMS["texts"], "messages": [QUESTION, YES]}, (), {}).name == "messages"
