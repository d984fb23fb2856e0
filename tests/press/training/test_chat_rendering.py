"""A chat in the model's own template becomes tokens, of which the assistant's alone are learned."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from press.core.errors import UserError
from press.data import formats
from press.data.formats import Chat
from press.model import device_tokenizer
from press.params import schema
from press.training import rendering

from . import chat_templates, data_sets
from .chat_templates import GEMMA, LLAMA_3, MISTRAL, SMOLLM2, THINKING

TURNS = [("user", "a"), ("assistant", "bc"), ("user", "d"), ("assistant", "e")]
WITH_SYSTEM = [("system", "S"), *TURNS]


def chat(*turns: tuple[str, str]) -> Chat:
    return Chat([{"role": role, "content": content} for role, content in turns])


def adapter(**changes: object) -> schema.Adapter:
    return data_sets.adapter(Path("x"), **{"template": "chat", "max_seq_len": 1000, **changes})


def renderer(tokenizer: PreTrainedTokenizerBase, **changes: object) -> rendering.Renderer:
    eos = [tokenizer.eos_token_id]
    return rendering.renderer(formats.Reading("messages"), adapter(**changes), tokenizer, eos)


# Counted by hand: a token a byte and one a mark. The first answer's tokens, the prompt's number and the example's.
COUNTED = [
    # 11 of the system, 9 of a question, 11 before an answer, 1 behind it
    ("SmolLM2", SMOLLM2, WITH_SYSTEM, (31, 34), 55, 57),
    # the default system prompt has 67 more letters than S
    ("SmolLM2 by default", SMOLLM2, TURNS, (98, 101), 122, 124),
    # 1, then 12 of the system, 10 of a question, 13 before an answer
    ("Llama 3", LLAMA_3, WITH_SYSTEM, (36, 39), 62, 64),
    # 1, then 9 of a question, 7 before an answer, 1 behind it
    ("Gemma", GEMMA, TURNS, (17, 20), 37, 39),
    # 1, then 16 of a question; the space before an answer is the answer's
    ("Mistral", MISTRAL, TURNS, (17, 21), 37, 40),
    # 9 of a question, 11 before an answer, 1 behind it; the last one is given 19 letters of thoughts
    ("Qwen3", THINKING, TURNS, (20, 23), 44, 65),
]


@pytest.mark.parametrize(
    ("template", "turns", "learned", "prompt", "length"),
    [each[1:] for each in COUNTED],
    ids=[each[0] for each in COUNTED],
)
def test_the_assistant_s_tokens_are_those_counted_by_hand(template, turns, learned, prompt, length):
    tokenizer = chat_templates.tokenizer(template)
    example = renderer(tokenizer, turns="all").example(chat(*turns))
    assert example["learned"] == [learned]
    assert (example["prompt_tokens"], len(example["input_ids"])) == (prompt, length)
    start, end = learned
    mark = tokenizer.eos_token
    assert tokenizer.decode(example["input_ids"][start:end]).strip() == f"bc{mark}"
    assert tokenizer.decode(example["input_ids"][prompt:]).endswith(f"e{mark}")
    assert example["completion"].endswith(f"e{mark}")
    assert tokenizer.decode(example["input_ids"]) == example["prompt"] + example["completion"]


@pytest.mark.parametrize("template", chat_templates.MARKS, ids=[mark[0] for mark in chat_templates.MARKS.values()])
def test_of_the_last_answer_alone_nothing_else_is_learned(template):
    tokenizer = chat_templates.tokenizer(template)
    both, last = (renderer(tokenizer, turns=turns).example(chat(*TURNS)) for turns in ("all", "last"))
    assert "learned" not in last
    assert {**both, "learned": None} == {**last, "learned": None}
    assert "learned" not in renderer(tokenizer, turns="all").example(chat(*TURNS[:2]))


@pytest.mark.parametrize("template", [SMOLLM2, LLAMA_3, GEMMA, MISTRAL, None], ids=lambda each: str(each)[:20])
def test_an_adapter_is_asked_as_it_was_trained(template):
    tokenizer = chat_templates.tokenizer(template or SMOLLM2)
    tokenizer.chat_template = template
    of = renderer(tokenizer)
    own = of.question_template()
    example = of.example(chat(("user", "wh{y"), ("assistant", "so}")))
    assert own.format(prompt="wh{y", response="so}") == example["prompt"] + example["completion"]


@pytest.mark.parametrize("template", [SMOLLM2, LLAMA_3, GEMMA, MISTRAL, None], ids=lambda each: str(each)[:20])
@pytest.mark.parametrize("system", ["", "S{x}"])
def test_an_adapter_is_asked_again_as_it_was_trained(template, system):
    tokenizer = chat_templates.tokenizer(template or SMOLLM2)
    tokenizer.chat_template = template
    of = renderer(tokenizer)
    if system and template in (GEMMA, MISTRAL):
        # Neither takes what the system says.
        assert of.turn_template(system) == ""
        return
    first, turn = of.question_template(system), of.turn_template(system)
    said = [("wh{y", "so}"), ("{prompt}", "{response}"), ("c", "d"), ("e", "f")]
    turns = [(role, text) for pair in said for role, text in zip(("user", "assistant"), pair, strict=True)]
    example = of.example(chat(*[("system", system)] * bool(system), *turns))
    texts = (
        each.format(prompt=asked, response=answer)
        for each, (asked, answer) in zip([first, *[turn] * 3], said, strict=True)
    )
    assert "".join(texts) == example["prompt"] + example["completion"]


def test_a_model_that_thinks_writes_its_thoughts_itself_and_is_not_told_earlier_ones():
    """As Qwen3's, which leaves out the thoughts of earlier turns."""
    of = renderer(chat_templates.tokenizer(THINKING))
    first, turn = of.question_template(), of.turn_template()
    assert "<think>" not in first + turn
    example = of.example(chat(*TURNS))
    text = example["prompt"] + example["completion"]
    asked = first.format(prompt="a", response="bc") + turn.format(prompt="d", response="e")
    assert "<think>" in text
    assert asked == text.replace("<think>\n\n</think>\n\n", "")


def test_a_template_that_writes_a_turn_otherwise_once_others_follow_has_no_turn_to_go_on_with():
    tokenizer = chat_templates.tokenizer(SMOLLM2)
    # The answer before another question has a mark of its own.
    marked = "{{ '' if loop.last or message['role'] == 'user' else '!' }}{{ message['content']"
    tokenizer.chat_template = SMOLLM2.replace("' + message['content'] +", "' }}" + marked + " +")
    of = renderer(tokenizer)
    assert of.question_template()
    assert of.turn_template() == ""


def test_what_the_system_says_in_all_examples_is_said_when_the_adapter_is_asked():
    of = renderer(chat_templates.tokenizer(LLAMA_3))
    assert "S{x}" in of.question_template("S{x}").format(prompt="", response="")


@pytest.mark.parametrize("template", chat_templates.MARKS, ids=[mark[0] for mark in chat_templates.MARKS.values()])
def test_a_control_token_in_a_message_is_refused_wherever_it_stands(template):
    tokenizer = chat_templates.tokenizer(template)
    of = renderer(tokenizer)
    mark = tokenizer.eos_token
    for turns in ((("user", f"a{mark}"), ("assistant", "b")), (("user", "a"), ("assistant", f"{mark}b"))):
        assert f"has {mark!r}, which the base model reads as a control token" in str(of.complaint(chat(*turns)))
    named = Chat([{"role": "user", "content": "a", "name": mark}, {"role": "assistant", "content": "b"}])
    assert str(of.complaint(named)).startswith("message 1 has")
    tools = Chat(chat(("user", "a"), ("assistant", "b")).messages, [{"function": {"name": mark}}])
    assert str(of.complaint(tools)).startswith("a tool has")
    assert of.complaint(chat(*TURNS)) is None


@pytest.mark.parametrize(("text", "wrong"), [("a\ud83c", "half of a surrogate pair"), ("a\0", r"U\+0000")])
def test_what_no_device_reads_is_refused_in_a_chat(text, wrong):
    complaint = renderer(chat_templates.tokenizer(LLAMA_3)).complaint(chat(("user", text), ("assistant", "b")))
    assert complaint is not None
    assert wrong.replace("\\", "") in complaint


def test_a_control_token_of_template_and_message_together_is_refused():
    tokenizer = chat_templates.tokenizer(SMOLLM2)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ '<' + message.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<' }}{% endif %}"
    )
    with pytest.raises(ValueError, match=r"^the template's text and the fields beside it make a control token"):
        renderer(tokenizer).example(chat(("user", "|im_start|>"), ("assistant", "b")))
    assert renderer(tokenizer).example(chat(("user", "|im_start|"), ("assistant", "b")))


def test_a_chat_that_the_template_refuses_is_told_in_its_words():
    with pytest.raises(ValueError, match="does not take: System role not supported"):
        renderer(chat_templates.tokenizer(GEMMA)).example(chat(*WITH_SYSTEM))


def test_a_chat_template_that_ends_no_answer_is_refused():
    tokenizer = chat_templates.tokenizer(SMOLLM2)
    tokenizer.chat_template = SMOLLM2.replace("+ '<|im_end|>' +", "+")
    with pytest.raises(UserError, match=r"^the chat template ends no answer with the base model's end-of-turn token"):
        renderer(tokenizer).example(chat(*WITH_SYSTEM))


def test_a_chat_template_that_ends_the_last_answer_alone_is_refused_for_all_answers():
    tokenizer = chat_templates.tokenizer(SMOLLM2)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role + '\n' + message.content + '\n' }}{% if loop.last and not "
        "add_generation_prompt %}<|im_end|>{% endif %}{% endfor %}{% if add_generation_prompt %}assistant\n{% endif %}"
    )
    assert renderer(tokenizer, turns="last").example(chat(*TURNS))
    with pytest.raises(UserError, match=r"^the chat template ends no answer with"):
        renderer(tokenizer, turns="all").example(chat(*TURNS))


def test_a_chat_that_begins_otherwise_when_it_goes_on_is_refused():
    tokenizer = chat_templates.tokenizer(SMOLLM2)
    tokenizer.chat_template = "{{ messages | length }}" + SMOLLM2
    with pytest.raises(ValueError, match=r"^a chat that the chat template begins otherwise when it goes on"):
        renderer(tokenizer).example(chat(*TURNS))


def test_a_base_model_without_a_chat_template_is_asked_plainly():
    tokenizer = chat_templates.tokenizer(GEMMA)
    tokenizer.chat_template = None
    example = renderer(tokenizer).example(chat(*WITH_SYSTEM))
    assert example["prompt"] + example["completion"] == (
        "S\nQuestion: a\nAnswer:\nbc<end_of_turn>\nQuestion: d\nAnswer:\ne<end_of_turn>"
    )
    tool = Chat([{"role": "tool", "content": "1"}, {"role": "assistant", "content": "b"}])
    with pytest.raises(ValueError, match="the plain template of a base model has no role tool"):
        renderer(tokenizer).example(tool)


def test_a_base_model_s_text_begins_as_its_tokenizer_has_it(starting):
    starting.chat_template = None
    example = renderer(starting).example(chat(*TURNS[:2]))
    assert example["prompt"] == "<|endoftext|>Question: a\nAnswer:\n"
    plain = rendering.renderer(formats.Reading("text"), adapter(), starting, [starting.eos_token_id]).example("once")
    assert (plain["prompt"], plain["completion"]) == ("<|endoftext|>", "once<|im_end|>")
    assert (plain["prompt_tokens"], len(plain["input_ids"])) == (1, 6)


def test_a_template_that_names_the_day_gives_the_same_text_on_every_day():
    tokenizer = chat_templates.tokenizer(SMOLLM2)
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + SMOLLM2
    assert renderer(tokenizer).example(chat(*TURNS))["prompt"].startswith("26 Jul 2024<|im_start|>")


TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content }}"
    "{% for call in message.tool_calls %}{{ '<tool_call>' + call.function.name + call.function.arguments | tojson }}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_tools_are_given_and_their_calls_are_learned():
    tokenizer = chat_templates.tokenizer(SMOLLM2)
    tokenizer.chat_template = TOOLS
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": "one"},
    ]
    example = renderer(tokenizer).example(Chat(messages, [{"function": {"name": "add"}}]))
    ((start, end),) = example["learned"]
    assert tokenizer.decode(example["input_ids"][start:end]) == '<tool_call>add{"a": 1}<|im_end|>'
    assert '{"function": {"name": "add"}}' in example["prompt"]


@pytest.mark.parametrize("template", [SMOLLM2, LLAMA_3, GEMMA, MISTRAL], ids=["SmolLM2", "Llama 3", "Gemma", "Mistral"])
def test_the_device_renders_a_chat_and_reads_it_as_it_was_trained(template):
    tokenizer = chat_templates.tokenizer(template)
    device, of, said = device_tokenizer.Device(tokenizer), renderer(tokenizer), chat(*TURNS)
    other = chat(*TURNS[:-1], ("user", "other"), ("assistant", "e"))
    example = of.example(said)
    device.compare(example["prompt"] + example["completion"], example["input_ids"])
    prompts = of.begin_on_device(device, [said, other])()
    assert [prompt == example["prompt"] for prompt in prompts] == [True, False]


CALLED = {"type": "function", "function": {"name": "weather", "arguments": {}}}
OFFERED = {"type": "function", "function": {"name": "weather", "parameters": {}}}
CALLING = [("user", "a"), ("assistant", "", CALLED), ("tool", "b"), ("assistant", "c")]
SYSTEMLESS = SMOLLM2[SMOLLM2.index("{{'<|im_start|>' + message") :]
SYSTEMLESS = "{% for message in messages if message.role != 'system' %}" + SYSTEMLESS


@pytest.mark.parametrize(
    ("template", "messages", "tools", "left_out"),
    [
        (SMOLLM2, [("user", "a"), ("assistant", "b")], [OFFERED], "the tools or their calls"),
        (SMOLLM2, CALLING, [], "the tools or their calls"),
        (TOOLS.replace("call.function.name", "'call'"), CALLING, [OFFERED], "the tools or their calls"),
        (SYSTEMLESS, [("system", "s"), *CALLING[:1], *CALLING[3:]], [], "what the system says in message 1"),
    ],
    ids=["tools", "calls", "calls beside tools", "system"],
)
def test_what_the_chat_template_leaves_out_is_not_dropped_silently(template, messages, tools, left_out):
    tokenizer = chat_templates.tokenizer(SMOLLM2)
    tokenizer.chat_template = template
    spoken = [
        {"role": role, "content": said, **({"tool_calls": calls} if calls else {})} for role, said, *calls in messages
    ]
    with pytest.raises(ValueError, match=f"^the base model's chat template leaves out {left_out}: leave it out of the"):
        renderer(tokenizer).example(Chat(spoken, tools))
