"""A model that thinks is trained as it is asked later on, with thoughts before the answer or without."""

from pathlib import Path

import pytest

from press.core.errors import UserError
from press.data import chats, formats, templates
from press.data.formats import Chat
from press.model import device_tokenizer
from press.training import asking, rendering

from . import chat_templates, data_sets
from .chat_templates import QWEN3, SMOLLM2, SMOLLM3

SCHEMA = {"type": "object"}
EMPTY = "<think>\n\n</think>\n"
ASKED = Chat([{"role": "user", "content": "a"}, {"role": "assistant", "content": "{}"}])


def renderer(template: str, /, **changes: object) -> rendering.Renderer:
    """Return the renderer of an adapter, as `prepare` has it."""
    tokenizer = chat_templates.tokenizer(template)
    adapter = data_sets.adapter(Path("x"), **{"template": "chat", "max_seq_len": 1000, **changes})
    asking.settle_thinking("travel", adapter, tokenizer)
    return rendering.renderer(formats.Reading("messages", (), {}), adapter, tokenizer, [tokenizer.eos_token_id])


@pytest.mark.parametrize("template", [QWEN3, SMOLLM3], ids=["Qwen3", "SmolLM3"])
@pytest.mark.parametrize(
    ("changes", "thinks"),
    [
        ({}, True),
        ({"thinking": True}, True),
        ({"thinking": False}, False),
        ({"response_schema": SCHEMA}, False),
        ({"response_schema": SCHEMA, "thinking": False}, False),
    ],
)
def test_an_answer_is_learned_behind_the_prompt_that_it_is_given_to_later(template, changes, thinks):
    of = renderer(template, **changes)
    example = of.example(ASKED)
    asked = of.question_template()
    prompt, _ = templates.render(asked, {"prompt": "a", "response": "{}"})
    assert example["prompt"] == prompt
    assert (EMPTY in prompt) is not thinks
    if not thinks:
        # No thoughts are learned, and none keep an answer from being JSON.
        assert templates.answer(asked, example["completion"]) == "{}"


@pytest.mark.parametrize("template", [QWEN3, SMOLLM3], ids=["Qwen3", "SmolLM3"])
@pytest.mark.parametrize("on", [True, False])
def test_the_device_thinks_alike(template, on):
    tokenizer = chat_templates.tokenizer(template)
    tokenizer.chat_template = chats.settled(template, on)
    wanted = chats.text(tokenizer, ASKED.messages[:1], asks=True)
    assert (EMPTY in wanted) is not on
    asked = Chat(ASKED.messages[:1], ())
    assert device_tokenizer.Device(tokenizer).begin([asked], None)() == [wanted]


def test_thoughts_of_the_data_are_learned():
    thought = {"role": "assistant", "content": "b", "reasoning_content": "so"}
    example = renderer(QWEN3, thinking=True).example(Chat([ASKED.messages[0], thought]))
    assert example["completion"] == "<think>\nso\n</think>\n\nb<|im_end|>"


@pytest.mark.parametrize(
    ("template", "changes", "complaint"),
    [
        (SMOLLM2, {}, "the base model's chat template has no choice of it (enable_thinking): leave it null"),
        (
            QWEN3,
            {"template": data_sets.TEMPLATE},
            "its template says itself what stands before an answer: leave it null",
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused(template, changes, complaint):
    with pytest.raises(UserError) as caught:
        renderer(template, thinking=False, **changes)
    assert str(caught.value) == f"adapters.travel.thinking is false, but {complaint}"


def test_a_template_is_settled_once_by_the_last_who_says_so():
    both = {"default": QWEN3, "tool_use": SMOLLM2}
    settled = chats.settled(chats.settled(both, True), False)
    assert settled == {"default": "{% set enable_thinking = false %}" + QWEN3, "tool_use": SMOLLM2}
    assert chats.settled(settled, None) == settled
    assert chats.settled(None, True) is None
