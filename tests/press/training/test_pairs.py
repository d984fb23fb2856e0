"""Pairs of answers as examples: the same tokens as single answers, split by their prompts, cut and refused by line."""

import json
from pathlib import Path

import pytest

from press.core.errors import UserError
from press.data import examples
from press.params import schema
from press.training import preparation

from .data_sets import BASE, EOS, OVERHEAD, TOKENIZER, adapter, complaint, good, prepared

TRAINING = {**BASE.training.model_dump(), "objective": "dpo"}


def line(prompt: str, chosen: object = "yes", rejected: object = "no", **more: object) -> bytes:
    return json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}).encode()


def lines(count: int) -> list[bytes]:
    return [line(f"question {index}") for index in range(count)]


@pytest.fixture
def write(tmp_path: Path):
    """Write lines as a data set of pairs and return its adapter's parameters."""

    def write(some: list[bytes], **changes: object) -> schema.Adapter:
        path = tmp_path / "data.jsonl"
        path.write_bytes(b"".join(each + b"\n" for each in some))
        return adapter(path, **{"training": TRAINING, **changes})

    return write


def made(result: preparation.Prepared) -> list[examples.Example]:
    assert isinstance(result.train, list)
    assert isinstance(result.heldout, list)
    return [*result.train, *result.heldout]


@pytest.mark.parametrize("template", [BASE.template, "chat"])
def test_each_side_has_the_tokens_of_that_answer_alone(write, template):
    """So that what an adapter prefers is what the others learn: template, control tokens and their ends."""
    (pair,) = made(
        preparation.look(write([line("Is it cold?", "Yes, very.", "No.")], template=template), TOKENIZER, EOS, 9)
    )
    single = {}
    for answer in ("Yes, very.", "No."):
        data = write(
            [json.dumps({"prompt": "Is it cold?", "response": answer}).encode()],
            template=template,
            training=BASE.training.model_dump(),
        )
        (single[answer],) = made(preparation.look(data, TOKENIZER, EOS, 9))
    assert examples.sides(pair) == list(single.values())
    assert examples.sides(pair)[0]["input_ids"] == pair["input_ids"]


def test_the_objective_leaves_nothing_to_guess(write):
    for chosen in (None, "preference"):
        assert prepared(write(lines(9), template="chat", format=chosen)).guessed == ""


def prompts(split: preparation.Sink) -> set[str]:
    assert isinstance(split, list)
    return {each["prompt"] for each in split}


def test_all_pairs_of_a_prompt_and_of_those_nearly_the_same_lie_on_one_side_of_the_split(write):
    some = [line(f"{prompt} {index}", f"yes {turn}") for index in range(20) for turn in "abc" for prompt in ("I?", "i")]
    result = prepared(write(some))
    train, heldout = (
        {each.lower().replace("?", "") for each in prompts(split)} for split in (result.train, result.heldout)
    )
    assert len(made(result)) == len(some)
    assert train
    assert heldout
    assert not train & heldout


def test_the_prompt_alone_decides_on_the_side(write):
    some = [line(f"question {index}", f"yes {turn}") for index in range(20) for turn in range(3)]
    sides = [prompts(prepared(write(order)).heldout) for order in (some, some[::-1])]
    assert sides[0] == sides[1]


def test_lines_that_are_added_move_none(write):
    before = prepared(write(lines(20)))
    after = prepared(write([*lines(20), *(line(f"another {index}") for index in range(20))]))
    assert isinstance(after.heldout, list)
    assert [each for each in before.heldout if each not in after.heldout] == []


def test_a_pair_that_was_there_before_is_left_out_and_one_the_other_way_round_is_refused(write):
    assert prepared(write([*lines(9), *lines(3)])).duplicates == 3
    turned = line("question 1", "no", "yes")
    assert (
        complaint(write([*lines(9), turned])) == "line 10: the same prompt as line 2 with chosen and rejected exchanged"
    )
    assert prepared(write([*lines(9), line("question 1", "no", "never")])).duplicates == 0


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_what_stands_in_either_answer_is_checked(write, side):
    data = write([*lines(9), line("q", **{side: "a<|im_end|>b"})])
    assert complaint(data).startswith(f"line 10: {side}: field 'response' has '<|im_end|>', which the base model reads")
    data = write([*lines(9), line("q", **{side: "x" * 300})])
    assert complaint(data) == f"line 10: {side}: {300 + 1 + OVERHEAD} tokens, more than max_seq_len 256"


def test_answers_that_become_the_same_tokens_are_refused(write):
    turn = "<|im_start|>{{ m.content | trim }}<|im_end|>"
    chat = f"{{% for m in messages %}}{turn}{{% endfor %}}{{% if add_generation_prompt %}}<|im_start|>{{% endif %}}"
    before = TOKENIZER.chat_template
    TOKENIZER.chat_template = chat
    try:
        data = write([*lines(9), line("q", "yes", "yes ")], template="chat")
        assert complaint(data) == "line 10: chosen and rejected are the same, so that nothing is preferred"
    finally:
        TOKENIZER.chat_template = before


def test_answers_that_are_too_long_are_cut_each_for_itself(write):
    (pair,) = made(
        preparation.look(write([line("q", "x" * 300, "no")], too_long="truncate", max_seq_len=20), TOKENIZER, EOS, 9)
    )
    assert len(pair["input_ids"]) == 20
    assert TOKENIZER.decode(pair["input_ids"]).endswith("xx")
    assert TOKENIZER.decode(pair["rejected_ids"]).endswith("no<|im_end|>")


@pytest.mark.parametrize(("answers", "why"), [(("x" * 300, "x" * 200), "the same"), (("yes", "no"), "nothing")])
def test_a_pair_of_which_no_preference_is_left_is_left_out(write, answers, why):
    prompt = "q" if why == "the same" else "q" * 40
    result = prepared(write([*lines(9), line(prompt, *answers)], too_long="truncate", max_seq_len=30))
    (reject,) = result.rejects
    assert reject.line == 10
    assert reject.reason.endswith("and what is left of its answers is the same, or nothing")
    assert prepared(write([*lines(9), line(prompt, *answers)], too_long="skip", max_seq_len=30)).rejects[0].line == 10


def test_a_schema_is_asked_of_the_chosen_answer_alone(write):
    wanted = {"type": "object"}
    some = [line(f"question {index}", '{"a": 1}', "nonsense") for index in range(9)]
    assert len(made(prepared(write(some, response_schema=wanted)))) == 9
    assert "the response is" in complaint(write([*some, line("q", "nonsense", '{"a": 1}')], response_schema=wanted))


def test_the_lengths_are_those_of_the_longer_side(write):
    result = prepared(write([line(f"q{index}", "yes", "n" * 40) for index in range(9)]))
    assert list(result.lengths) == [2 + 40 + OVERHEAD]


def test_a_data_set_of_single_answers_is_refused_by_its_lines(write):
    assert complaint(write(good(9))).startswith(
        "lines 1, 2, 3, 4, 5 and 4 more: no field 'chosen', as the format preference"
    )


def test_an_empty_data_set_is_told_what_it_needs(write):
    with pytest.raises(UserError, match=r"is empty: it needs lines with chosen, rejected$"):
        prepared(write([]))
