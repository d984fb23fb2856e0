"""Whatever format data has, the same examples come of it, and the same mistakes in it are named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from press.core.errors import UserError
from press.data.examples import Example
from press.params import schema
from press.training import preparation, preparation_report

from . import data_sets
from .data_sets import complaint, prepared

FORMATS: dict[str, Callable[[str, str], dict]] = {
    "messages": lambda asked, answer: {
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    },
    "prompt": lambda asked, answer: {"prompt": asked, "response": answer},
    "alpaca": lambda asked, answer: {"instruction": asked, "input": "", "output": answer},
    "sharegpt": lambda asked, answer: {
        "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    },
    "text": lambda asked, answer: {"text": f"{asked} {answer}"},
}
each_format = pytest.mark.parametrize("name", FORMATS)
CHAT = {"template": "chat", "samples": ["why"]}


@pytest.fixture
def written(tmp_path: Path):
    """Write records of questions and answers in a format; return the adapter's parameters."""

    def written(name: str, pairs: list[tuple[str, str]], **changes: object) -> schema.Adapter:
        path = tmp_path / f"{name}.jsonl"
        lines = [json.dumps(FORMATS[name](asked, answer)) for asked, answer in pairs]
        path.write_text("\n".join(lines), encoding="utf-8")
        return data_sets.adapter(path, **{**CHAT, **changes})

    return written


def pairs(count: int) -> list[tuple[str, str]]:
    return [(f"question {index}", f"answer {index}") for index in range(count)]


def both(result: preparation.Prepared) -> tuple[list[Example], list[Example]]:
    assert isinstance(result.train, list)
    assert isinstance(result.heldout, list)
    return result.train, result.heldout


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "text"])
def test_examples_and_split_are_the_same_in_every_format(written, name):
    result, wanted = prepared(written(name, pairs(40))), prepared(written("prompt", pairs(40)))
    assert both(result) == both(wanted)
    assert result.template == "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{response}<|im_end|>"
    # As by a template of the adapter's own.
    own = prepared(written("prompt", pairs(40), template=result.template))
    assert both(own) == both(result)
    assert own.guessed == ""
    said = {"messages": "messages", "prompt": "prompt, response", "alpaca": "instruction, output"}
    fields = said.get(name, "conversations, from, value")
    assert result.guessed.endswith(f"{name}.jsonl is read as format {name}, by its fields {fields}")
    given = prepared(written(name, pairs(40), format=name))
    assert (both(given), given.guessed) == (both(result), "")


@each_format
@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a<|im_end|>b", "has '<|im_end|>', which the base model reads as a control token: write it otherwise"),
        ("a\0b", "has the character U+0000, at which a device cuts a text off"),
        ("a\ud83cb", "JSON with half of a surrogate pair, which is no character"),
    ],
)
def test_what_must_not_be_in_a_text_is_refused_in_every_format(written, name, text, wrong):
    for mistake in ((text, "b"), ("a", text)):
        lines = pairs(40)
        lines[36] = mistake
        told = complaint(written(name, lines))
        assert told.startswith("line 37: ")
        assert told.endswith(wrong)


@each_format
@pytest.mark.parametrize("wrong", [b"{", b"[]", b"\xe9", b'{"a": 1, "a": 2}', b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}"])
def test_a_line_that_is_no_object_is_named_in_every_format(written, name, wrong):
    params = written(name, pairs(20))
    path = Path(params.data)
    path.write_bytes(path.read_bytes() + b"\n" + wrong)
    assert complaint(params).startswith("line 21: ")


@each_format
@pytest.mark.parametrize("value", [7, None, "", " \n", ["a"], {"a": "b"}, True])
def test_a_field_of_another_type_is_named_in_every_format(written, name, value):
    params = written(name, pairs(20))
    record = FORMATS[name]("a", "b")
    ((key, _), *_) = record.items()
    with Path(params.data).open("a", encoding="utf-8") as file:
        file.write(f"\n{json.dumps(record | {key: value})}\n")
    told = complaint(params)
    assert told.startswith((f"line 21: field '{key}' is ", 'line 21: message 1 is "a", not an object'))


@each_format
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_the_ends_of_lines_change_nothing_in_any_format(written, name, end):
    params = written(name, pairs(20))
    before = both(prepared(params))
    path = Path(params.data)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", end.encode()))
    assert both(prepared(params)) == before


@each_format
@pytest.mark.parametrize(
    "change", [str.upper, "¡{}!".format, " {}".format, "{}…".format, lambda text: text.replace("question", "ques-tion")]
)
def test_nearly_the_same_question_is_never_on_both_sides(written, name, change):
    once = [(f"question {index}:", "the answer") for index in range(60)]
    again = [(change(asked), "the answer") for asked, _ in once]
    alone, twice = prepared(written(name, once)), prepared(written(name, [*once, *again]))
    assert (alone.near_duplicates, twice.near_duplicates) == (0, 60)
    assert [len(each) for each in both(twice)] == [2 * len(each) for each in both(alone)]


def test_text_that_is_punctuation_alone_differs_by_it(written):
    lines = [(mark * count, "a") for mark in "?!." for count in range(1, 10)]
    assert prepared(written("prompt", lines)).near_duplicates == 0


def test_of_many_lines_held_out_those_with_the_smallest_hashes_stay(written):
    everything = both(prepared(written("prompt", pairs(200))))
    few = prepared(written("prompt", pairs(200), heldout_examples=10))
    assert len(few.heldout) == 10
    assert few.set_aside == len(everything[1]) - 10
    assert both(few)[0] == everything[0]
    assert [each for each in everything[1] if each in both(few)[1]] == both(few)[1]
    # Whatever the order of the lines.
    turned = prepared(written("prompt", pairs(200)[::-1], heldout_examples=10))
    assert sorted(each["prompt"] for each in both(turned)[1]) == sorted(each["prompt"] for each in both(few)[1])


def test_the_system_s_words_are_in_the_template_if_they_are_always_the_same(tmp_path):
    def template(systems: list[str]) -> str:
        path = tmp_path / "data.jsonl"
        lines = [
            json.dumps({"prompt": f"q {index}", "response": "a", "system": systems[index % len(systems)]})
            for index in range(20)
        ]
        path.write_text("\n".join(lines), encoding="utf-8")
        return prepared(data_sets.adapter(path, **CHAT)).template

    assert template(["Be {brief}."]).startswith(
        "<|im_start|>system\nBe {{brief}}.<|im_end|>\n<|im_start|>user\n{prompt}"
    )
    assert template(["Be brief.", "Be long."]).startswith("<|im_start|>user\n{prompt}")
    assert template(["Be brief.", ""]).startswith("<|im_start|>user\n{prompt}")


def test_a_schema_holds_for_the_last_answer_of_a_chat(written):
    lines = [(f"question {index}", '{"days": 1}') for index in range(20)]
    response_schema = {"type": "object", "required": ["days"]}
    assert prepared(written("messages", lines, response_schema=response_schema)).train
    lines[4] = ("why", "so")
    assert complaint(written("messages", lines, response_schema=response_schema)) == (
        "line 5: the response is not JSON (Expecting value at column 1)"
    )


def test_a_folder_s_lines_are_named_with_their_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("shards")
    folder.mkdir()
    for name in ("a", "b"):
        lines = [json.dumps({"prompt": f"{name} {index}", "response": "c"}) for index in range(20)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    params = data_sets.adapter(folder, **CHAT)
    result = prepared(params)
    assert len(result.train) + len(result.heldout) == 40
    with (folder / "b.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n[]\n{"prompt": "a 3", "response": "d"}\n{"prompt": "a 4", "response": "' + "e" * 300 + '"}')
    with pytest.raises(UserError) as caught:
        prepared(params)
    assert str(caught.value).splitlines() == [
        "shards/b.jsonl line 21: a JSON list, not an object",
        "shards/b.jsonl line 22: the same prompt as line 4 of a.jsonl with another answer",
        "shards/b.jsonl line 23: the same prompt as line 5 of a.jsonl with another answer",
    ]


def test_plain_text_is_not_guessed_where_a_template_or_a_schema_asks_for_answers(written):
    assert complaint(written("text", pairs(3), template="<|im_start|>{prompt}\n{response}<|im_end|>")) == (
        "lines 1, 2, 3: no field 'prompt', which the template names; it has text"
    )
    assert complaint(written("text", pairs(3), response_schema={"type": "object"})) == (
        "is read as format text, which has no answers: let response_schema be null"
    )


def test_what_was_guessed_and_what_the_device_renders_otherwise_is_told(written):
    result = prepared(written("alpaca", pairs(40)))
    sentences = preparation_report.sentences("travel", result)
    assert sentences[0].endswith("alpaca.jsonl is read as format alpaca, by its fields instruction, output")
    assert len(sentences) == 2
    result.rendered_otherwise = 3
    assert preparation_report.sentences("travel", result)[-1].startswith(
        "travel: onnxruntime-genai's chat template gives another prompt than transformers' for 3 of 40 examples"
    )
