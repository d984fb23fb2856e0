"""What becomes of a data set: examples with their tokens, two splits, samples and a report."""

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press.core import files
from press.core.errors import UserError
from press.data import jsonl
from press.model import device_tokenizer
from press.training import preparation, preparation_report
from stages import prepare

from .data_sets import BASE, ROOT, TOKENIZER, adapter, good, line, prepared


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


@pytest.mark.parametrize("change", ["{} ", " {}", "\u00a0{}\n", "\u200b{}\u00ad"], ids=ascii)
@pytest.mark.parametrize("form", [str, str.upper, lambda text: unicodedata.normalize("NFD", text)])
def test_no_prompt_is_trained_on_that_is_nearly_one_of_those_held_out(write, change, form):
    lines = [line(f"la cité n° {index}") for index in range(60)]
    again = [line(change.format(form(f"la cité n° {index}"))) for index in range(60)]
    once, twice = prepared(write(lines)), prepared(write([*lines, *again]))
    assert (once.near_duplicates, twice.near_duplicates) == (0, 60)
    assert (len(twice.train), len(twice.heldout)) == (2 * len(once.train), 2 * len(once.heldout))
    assert twice.heldout[: len(once.heldout)] == once.heldout

    def folded(prompt: str) -> str:
        return " ".join(unicodedata.normalize("NFKC", prompt).casefold().strip("\u200b\u00ad").split())

    asked = [{folded(each["prompt"]) for each in split} for split in (twice.train, twice.heldout)]
    assert not asked[0] & asked[1]


def test_prompts_that_differ_in_a_word_are_on_their_own(write):
    lines = [*good(60), *[line(f"Question {index}, please") for index in range(60)]]
    assert prepared(write(lines)).near_duplicates == 0


def test_samples_that_are_nearly_trained_on_are_told(write):
    result = prepared(write(good(20)))
    trained, heldout = (split[0]["prompt"][len("<|im_start|>") : -1] for split in (result.train, result.heldout))
    samples = [f" {trained.upper()}?!", heldout, "another question"]
    result = prepared(write(good(20), samples=samples))
    assert result.trained_samples == set(samples[:1])
    (told,) = [each for each in preparation_report.sentences("a", result) if "nearly a sample" in each]
    assert told.endswith(f": {json.dumps(samples[0])}")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_about_the_wanted_share_is_held_out(write, share):
    result = prepared(write(good(1000), heldout=share))
    assert len(result.train) + len(result.heldout) == 1000
    assert abs(len(result.heldout) / 1000 - share) < 0.05


def test_preparing_twice_gives_the_same(write):
    params = write(good(40))
    assert prepared(params) == prepared(params)


def test_the_report_counts_examples_lengths_and_rejects(write, tmp_path):
    lines = [*good(10), line("question 0"), line("b", "a" * 40), line("c", "a" * 90)]
    result = prepared(write(lines, max_seq_len=60, too_long="skip"))
    preparation_report.write(result, tmp_path / "report")
    train, heldout = len(result.train), len(result.heldout)
    assert train + heldout == 11
    assert files.read_json(tmp_path / "report" / "report.json") == {
        "examples": {"train": train, "heldout": heldout},
        "left_out": {"rejected": 1, "duplicates": 1, "set_aside": 0},
        "near_duplicates": 0,
        "trained_samples": 0,
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
    odd = "line\u2028separator \x85 \x0c é 🌍 \u0001"
    result = prepared(write([*good(40), line(odd)]))
    both = result.train + result.heldout
    assert any(odd in each["prompt"] for each in both)
    jsonl.write(tmp_path / "examples.jsonl", both)
    assert jsonl.read(tmp_path / "examples.jsonl") == both


@pytest.fixture
def project(tmp_path, tiny_base, monkeypatch) -> Path:
    """The working folder of the stage, with a data set and a tiny base model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base").symlink_to(tiny_base)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "travel.jsonl").write_bytes(b"\n".join(good(60)))
    return tmp_path


# The device reads a batch of lines while the next one is made.
@pytest.mark.parametrize(("batch", "number"), [(1024, 59), (20, 0), (20, 59), (1, 30)])
def test_a_base_of_which_the_device_reads_a_prompt_otherwise_is_refused(project, monkeypatch, batch, number):
    encode = device_tokenizer.encode
    monkeypatch.setattr(preparation, "BATCH", batch)

    def otherwise(tokenizer, text: str) -> list[int]:
        return encode(tokenizer, text.replace(f"question {number}<", f"question  {number}<"))

    monkeypatch.setattr(device_tokenizer, "encode", otherwise)
    with pytest.raises(UserError, match=rf"^the device reads .*question {number}"):
        prepare.main("travel")
    assert not (project / "prepared" / "travel").exists()


def test_the_stage_writes_splits_template_and_report(project, capsys):
    prepare.main("travel")
    splits = [jsonl.read(project / "prepared" / "travel" / f"{name}.jsonl") for name in ("train", "heldout")]
    assert sum(map(len, splits)) == 60
    assert (
        capsys.readouterr().out
        == f"travel: {len(splits[0])} to train, {len(splits[1])} held out, 0 left out, 0 truncated\n"
    )
    manifest = files.read_json(project / "prepared" / "travel" / "adapter.json")
    assert manifest["template"] == BASE.template
    assert manifest["samples"][0].startswith("<|im_start|>user\n")
    assert manifest["samples"][0].endswith("<|im_start|>assistant\n")
    reports = {path.name for path in (project / "reports" / "prepare" / "travel").iterdir()}
    assert reports == {"report.json", "rejects.json", "lengths.csv"}


def test_what_answers_are_asked_and_how_they_are_given_reaches_no_example(project):
    manifest, examples = (project / "prepared/travel" / name for name in ("adapter.json", "train.jsonl"))
    prepare.main("travel")
    before, trained_on = files.read_json(manifest), examples.read_bytes()
    params = project / "params.yaml"
    text = params.read_text(encoding="utf-8")
    for old, new in (("repetition_penalty: 1.05", "repetition_penalty: 1.25"), ("a day hike", "a long hike")):
        text = text.replace(old, new, 1)
    params.write_text(text, encoding="utf-8")
    prepare.main("travel")
    after = files.read_json(manifest)
    assert (before["generation"]["repetition_penalty"], after["generation"]["repetition_penalty"]) == (1.05, 1.25)
    assert {name for name in after if after[name] != before[name]} == {"generation", "samples"}
    assert examples.read_bytes() == trained_on


def conversation(number: int, turns: int) -> bytes:
    said = [(f"question {number} {turn}", f"answer {number} {turn}") for turn in range(turns)]
    roles = ("user", "assistant")
    return json.dumps(
        {"messages": [{"role": role, "content": text} for each in said for role, text in zip(roles, each, strict=True)]}
    ).encode()


@pytest.mark.parametrize("turns", [1, 2])
def test_an_adapter_that_is_trained_on_conversations_says_how_they_go_on(project, turns, capsys):
    (project / "data" / "travel.jsonl").write_bytes(b"\n".join(conversation(each, turns) for each in range(60)))
    params = (project / "params.yaml").read_text(encoding="utf-8")
    template = re.compile("^  template: .*$", re.MULTILINE)
    (project / "params.yaml").write_text(template.sub("  template: chat", params, count=1), encoding="utf-8")
    prepare.main("travel")
    manifest = files.read_json(project / "prepared" / "travel" / "adapter.json")
    turn = "\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{response}<|im_end|>"
    assert manifest.get("turn") == (turn if turns > 1 else None)
    assert "single questions" not in capsys.readouterr().out


def test_conversations_that_the_template_cannot_go_on_with_are_said():
    result = preparation.Prepared([], [], lengths=Counter([3]), conversations=2)
    assert preparation_report.sentences("travel", result)[1:] == [
        "travel: 2 examples have several questions, but the chat template writes a turn otherwise once others follow: "
        "the adapter is asked single questions"
    ]
