"""A data set is taken line by line, or the lines that are wrong are named."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from press import examples, files, settings, sources
from press.errors import UserError
from stages import prepare

ROOT = Path(__file__).parents[2]
TOKENIZER = sources.byte_tokenizer()
EOS = [TOKENIZER.eos_token_id]
TEMPLATE = "<|im_start|>{prompt}\n{response}<|im_end|>"
OVERHEAD = 3  # tokens of the template
BASE = settings.load(ROOT / "params.yaml").adapter("travel")


def adapter(data: Path, **changes: object) -> settings.Adapter:
    chosen = {"template": TEMPLATE, "max_seq_len": 256, "too_long": "error", "heldout": 0.5, "response_schema": None}
    return settings.Adapter.model_validate({**BASE.model_dump(), **chosen, "data": str(data), **changes})


def line(prompt: object, response: object = "yes", **more: object) -> bytes:
    return json.dumps({"prompt": prompt, "response": response, **more}).encode()


def good(count: int) -> list[bytes]:
    return [line(f"question {index}") for index in range(count)]


@pytest.fixture
def write(tmp_path: Path):
    """Write lines as a data set and return its adapter's parameters."""

    def write(lines: list[bytes], **changes: object) -> settings.Adapter:
        path = tmp_path / "data.jsonl"
        path.write_bytes(b"".join(each + b"\n" for each in lines))
        return adapter(path, **changes)

    return write


def prepared(params: settings.Adapter) -> prepare.Prepared:
    return prepare.prepare(params, TOKENIZER, EOS)


def complaint(params: settings.Adapter) -> str:
    """Return what is wrong with a data set, with its path cut off."""
    with pytest.raises(UserError) as caught:
        prepared(params)
    assert str(caught.value).startswith(params.data)
    return str(caught.value).replace(params.data, "").strip()


REJECTED = [
    (b'{"prompt": "caf\xe9"}', "not UTF-8 (byte 16)"),
    (b'{"prompt": "a", "response": "b"', "not JSON (Expecting ',' delimiter at column 32)"),
    (b"prompt,response", "not JSON (Expecting value at column 1)"),
    (
        b'\xef\xbb\xbf{"prompt": "a", "response": "b"}',
        "not JSON (Unexpected UTF-8 BOM (decode using utf-8-sig) at column 1)",
    ),
    (b'["a", "b"]', "a JSON list, not an object"),
    (b'{"prompt": "a"}', "no field 'response', which the template names; it has prompt"),
    (b"{}", "no field 'prompt', which the template names; it has none"),
    (line(""), "field 'prompt' is \"\", not a non-empty string"),
    (line("a", " \n"), "field 'response' is \" \\n\", not a non-empty string"),
    (line(7), "field 'prompt' is 7, not a non-empty string"),
    (line("a", ["b"]), "field 'response' is [\"b\"], not a non-empty string"),
    (b'{"prompt": "a\\ud83c", "response": "b"}', "field 'prompt' has half of a surrogate pair, which is no character"),
    (line("question 3", "no"), "the same prompt as line 4 with another answer"),
    (line("a" * 300), f"{300 + 3 + OVERHEAD} tokens, more than max_seq_len 256"),
]


@pytest.mark.parametrize(("wrong", "reason"), REJECTED, ids=[reason for _, reason in REJECTED])
def test_a_wrong_line_is_named_with_its_file_its_number_and_the_reason(write, wrong, reason):
    lines = good(40)
    lines[36] = wrong
    assert complaint(write(lines)) == f"line 37: {reason}"


def test_an_answer_that_breaks_the_schema_is_named(write):
    schema = {"type": "object", "required": ["days"]}
    lines = [line(f"question {index}", '{"days": 1}') for index in range(20)]
    assert len(prepared(write(lines, response_schema=schema)).train) > 0
    lines[3:5] = [line("a", "three days"), line("b", "{}")]
    assert complaint(write(lines, response_schema=schema)).splitlines() == [
        "line 4: the response is not JSON (Expecting value: line 1 column 1 (char 0))",
        " line 5: the response breaks the response schema at $: 'days' is a required property",
    ]


def test_errors_of_all_kinds_are_shown_in_the_order_of_the_lines(write):
    lines = [*good(20), line("a" * 300), b"[]"]
    assert [row.strip().split(":")[0] for row in complaint(write(lines)).splitlines()] == ["line 21", "line 22"]


def test_many_errors_are_cut_to_ten_with_a_count(write):
    rows = complaint(write([*good(20), *[b"[]"] * 14])).splitlines()
    assert len(rows) == 11
    assert rows[0] == "line 21: a JSON list, not an object"
    assert rows[-1] == "and 4 more lines"
    assert "more" not in complaint(write([*good(20), *[b"[]"] * 10]))


def test_exact_duplicates_count_once_and_blank_lines_not_at_all(write):
    lines = [*good(40), *good(3), b"", b"  ", line("question 0", extra="a field that the template does not name")]
    result = prepared(write(lines))
    assert len(result.train) + len(result.heldout) == 40
    assert result.duplicates == 4
    assert result.rejects == []


@pytest.mark.parametrize("lines", [[], [b"", b"   "]], ids=["nothing", "blank lines"])
def test_an_empty_file_says_what_it_needs(write, lines):
    assert complaint(write(lines)) == "is empty: it needs JSON objects with prompt, response, one a line"


def test_a_missing_file_or_a_folder_is_no_data(tmp_path):
    for data in (tmp_path, tmp_path / "no.jsonl"):
        assert complaint(adapter(data)) == "is not a file: mend the adapter's data in params.yaml"


def test_a_template_that_names_a_field_which_the_data_has_not_is_refused(write):
    template = "<|im_start|>{question}\n{response}<|im_end|>"
    assert complaint(write(good(1), template=template)) == (
        "line 1: no field 'question', which the template names; it has prompt, response"
    )


@pytest.mark.parametrize("end", ["", "\n", "<|im_end|>\n", "<|endoftext|>"])
def test_a_template_that_does_not_end_with_the_end_of_turn_is_refused(write, end):
    template = f"<|im_start|>{{prompt}}\n{{response}}{end}"
    with pytest.raises(UserError) as caught:
        prepared(write(good(40), template=template))
    assert str(caught.value) == (
        f"the template ends with {template[-12:]!r}, so that an answer would never end: it must end with the base "
        "model's end-of-turn token, '<|im_end|>'"
    )


def test_a_data_set_too_small_to_split_is_refused(write):
    assert complaint(write(good(1))) in (
        "leaves 1 examples to train on and 0 held out; both must be at least 1: add lines or change heldout",
        "leaves 0 examples to train on and 1 held out; both must be at least 1: add lines or change heldout",
    )


def lengths(result: prepare.Prepared) -> set[int]:
    return {len(example["input_ids"]) for example in result.train + result.heldout}


def test_a_line_of_just_max_seq_len_is_not_too_long(write):
    lines = [line(f"{index:02}" + "a" * 20) for index in range(40)]
    limit = 22 + 3 + OVERHEAD
    assert lengths(prepared(write(lines, max_seq_len=limit))) == {limit}
    assert complaint(write(lines, max_seq_len=limit - 1)).startswith("line 1: 28 tokens, more than max_seq_len 27")


def test_too_long_lines_are_skipped_and_reported(write):
    lines = [*good(40), line("b", "a" * 300), line("a" * 300)]
    result = prepared(write(lines, too_long="skip"))
    assert len(result.train) + len(result.heldout) == 40
    assert [(reject.line, reject.reason) for reject in result.rejects] == [
        (41, "304 tokens, more than max_seq_len 256"),
        (42, "306 tokens, more than max_seq_len 256"),
    ]


def test_too_long_lines_are_truncated_in_their_answer(write):
    result = prepared(write([*good(40), line("b", "a" * 300)], too_long="truncate"))
    assert result.truncated == 1
    assert len(result.train) + len(result.heldout) == 41
    assert max(lengths(result)) == 256


def test_a_prompt_that_leaves_no_room_for_an_answer_cannot_be_truncated(write):
    lines = [*good(40), line("a" * (256 - 2), "yes")]
    assert complaint(write(lines, too_long="truncate")) == "line 41: 260 tokens, more than max_seq_len 256"
    lines[-1] = line("a" * (256 - 3), "yes")
    assert prepared(write(lines, too_long="truncate")).truncated == 1


@given(st.text(min_size=1), st.text(min_size=1))
def test_the_prompt_s_tokens_end_where_the_prompt_ends(prompt, completion):
    example = prepare.tokenize(TOKENIZER, prompt, completion)
    assert TOKENIZER.decode(example["input_ids"][: example["prompt_tokens"]]) == prompt
    assert TOKENIZER.decode(example["input_ids"][example["prompt_tokens"] :]) == completion


def test_an_example_holds_the_rendered_texts_and_their_tokens(write):
    result = prepared(write(good(40)))
    example = next(each for each in result.train + result.heldout if "question 7\n" in each["prompt"])
    assert (example["prompt"], example["completion"]) == ("<|im_start|>question 7\n", "yes<|im_end|>")
    assert example["prompt_tokens"] == len("question 7\n") + 1
    assert TOKENIZER.decode(example["input_ids"]) == "<|im_start|>question 7\nyes<|im_end|>"


@given(st.sets(st.text("abcdef", min_size=1, max_size=5)), st.randoms())
def test_adding_lines_moves_no_other_line(tmp_path_factory, added, random):
    path = tmp_path_factory.getbasetemp() / "grown.jsonl"

    def split(lines: list[bytes]) -> dict[str, bool]:
        path.write_bytes(b"\n".join(lines))
        result = prepared(adapter(path))
        return {each["prompt"]: held for held in (False, True) for each in (result.train, result.heldout)[held]}

    before = split(good(12))
    lines = [*good(12), *map(line, sorted(added))]
    random.shuffle(lines)
    after = split(lines)
    assert before.items() <= after.items()
    assert len(after) == 12 + len(added)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_about_the_wanted_share_is_held_out(write, share):
    result = prepared(write(good(1000), heldout=share))
    assert len(result.train) + len(result.heldout) == 1000
    assert abs(len(result.heldout) / 1000 - share) < 0.05


def test_preparing_twice_gives_the_same(write):
    params = write(good(40))
    assert prepared(params) == prepared(params)


def test_samples_are_rendered_up_to_the_answer():
    params = adapter(Path("x"), samples=["why {so}?", "when"])
    assert prepare.render_samples(params) == ["<|im_start|>why {so}?\n", "<|im_start|>when\n"]
    twice = adapter(Path("x"), template="{q}, {q}: {response}", samples=["why"])
    assert prepare.render_samples(twice) == ["why, why: "]


def test_samples_of_a_template_with_two_fields_are_refused():
    params = adapter(Path("x"), template="{city} {topic} {response}")
    with pytest.raises(UserError) as caught:
        prepare.render_samples(params)
    assert str(caught.value) == "samples need a template with one field besides {response}, not city, topic"


def test_the_report_counts_examples_lengths_and_rejects(write, tmp_path):
    lines = [*good(10), line("question 0"), line("b", "a" * 40), line("c", "a" * 90)]
    result = prepared(write(lines, max_seq_len=60, too_long="skip"))
    prepare.write_report(result, tmp_path / "report")
    train, heldout = len(result.train), len(result.heldout)
    assert train + heldout == 11
    assert files.read_json(tmp_path / "report" / "report.json") == {
        "examples": {"train": train, "heldout": heldout},
        "left_out": {"rejected": 1, "duplicates": 1},
        "truncated": 0,
        "tokens": {"min": 16, "max": 44, "total": 10 * 16 + 44},
    }
    assert files.read_json(tmp_path / "report" / "rejects.json") == [
        {"line": 13, "reason": "94 tokens, more than max_seq_len 60"}
    ]
    assert (tmp_path / "report" / "lengths.csv").read_text(encoding="utf-8") == (
        "tokens,examples\n0016-0031,10\n0032-0047,1\n"
    )


def test_examples_are_read_as_they_were_written(write, tmp_path):
    odd = "line\u2028separator \x85 \x0c é 🌍 \u0000"
    result = prepared(write([*good(40), line(odd)]))
    both = result.train + result.heldout
    assert any(odd in each["prompt"] for each in both)
    examples.write(tmp_path / "examples.jsonl", both)
    assert examples.read(tmp_path / "examples.jsonl") == both


def test_the_stage_writes_splits_template_and_report(tmp_path, tiny_base, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base").symlink_to(tiny_base)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "travel.jsonl").write_bytes(b"\n".join(good(60)))
    prepare.main("travel")
    splits = [examples.read(tmp_path / "prepared" / "travel" / f"{name}.jsonl") for name in ("train", "heldout")]
    assert sum(map(len, splits)) == 60
    assert capsys.readouterr().out == f"travel: {len(splits[0])} to train, {len(splits[1])} held out, 0 left out\n"
    manifest = files.read_json(tmp_path / "prepared" / "travel" / "adapter.json")
    assert manifest["template"] == BASE.template
    assert manifest["samples"][0].startswith("<|im_start|>user\n")
    assert manifest["samples"][0].endswith("<|im_start|>assistant\n")
    reports = {path.name for path in (tmp_path / "reports" / "prepare" / "travel").iterdir()}
    assert reports == {"report.json", "rejects.json", "lengths.csv"}


def test_a_template_whose_end_merges_with_the_answer_is_refused(write):
    """With a space before the answer, most tokenizers make one token of the space and the first letters."""
    alphabet = TOKENIZER.get_vocab()
    vocab = {**{symbol: index for symbol, index in alphabet.items() if index < 256}, "Ġy": 256}
    merging = Tokenizer(models.BPE(vocab=vocab, merges=[("Ġ", "y")]))
    merging.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    merging.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=merging, eos_token="<|im_end|>")
    params = write(good(4), template="{prompt}: {response}<|im_end|>")
    with pytest.raises(UserError, match=r"line 1: the template's text before \{response\} merges"):
        prepare.prepare(params, tokenizer, [tokenizer.eos_token_id])
    params = write(good(4), template="{prompt}:\n{response}<|im_end|>")
    assert prepare.prepare(params, tokenizer, [tokenizer.eos_token_id]).train


def test_an_adapter_without_samples_may_have_a_template_with_two_fields(write):
    params = write(
        [line("q", place=f"p{index}") for index in range(6)], template="{place}|{prompt}\n{response}<|im_end|>"
    )
    assert prepare.render_samples(params.model_copy(update={"samples": []})) == []
