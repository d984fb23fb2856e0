"""The data sets that come with the project are large, valid and apart."""

import json
from pathlib import Path

import pytest

from press.params import settings
from press.sources import tokenizers
from press.training import asking, preparation

ROOT = Path(__file__).parents[1]
PARAMS = settings.load(ROOT / "params.yaml")
LEAST = {"travel": 400, "packing": 250}
TOKENIZER = tokenizers.of_bytes()


def prepared(name: str, tokenizer: object, eos_ids: list[int], **changes: object) -> preparation.Prepared:
    adapter = PARAMS.adapter(name)
    return preparation.prepare(
        adapter.model_copy(update={"data": str(ROOT / adapter.data), **changes}), tokenizer, eos_ids
    )


def by_bytes(name: str) -> preparation.Prepared:
    """Prepare a data set without the base model; its tokens are bytes, so that their number is not limited."""
    return prepared(name, TOKENIZER, [TOKENIZER.eos_token_id], max_seq_len=10**6)


def test_these_are_the_project_s_data_sets():
    assert {name: adapter.data for name, adapter in PARAMS.adapters.items()} == {
        name: f"data/{name}.jsonl" for name in LEAST
    }


@pytest.mark.parametrize("name", LEAST)
def test_all_lines_are_valid_distinct_and_enough(name):
    result = by_bytes(name)
    assert (result.rejects, result.duplicates) == ([], 0)
    assert len(result.train) + len(result.heldout) >= LEAST[name]


@pytest.mark.parametrize("name", LEAST)
def test_no_held_out_prompt_is_trained_on(name):
    result = by_bytes(name)
    train, heldout = (
        {" ".join(example["prompt"].casefold().split()) for example in split}
        for split in (result.train, result.heldout)
    )
    assert not train & heldout
    assert len(heldout) >= 20


@pytest.mark.parametrize("name", LEAST)
def test_no_sample_is_trained_on(name):
    adapter = PARAMS.adapter(name)
    prompts = {example["prompt"] for example in by_bytes(name).train}
    assert not prompts & set(asking.render_samples(adapter, adapter.template))


def test_the_unseen_trips_are_valid_and_apart():
    """`python -m bench.answers` judges by them; no parameter was chosen by them."""
    adapter = PARAMS.adapter("packing")
    changes = {"data": str(ROOT / "data/packing-unseen.jsonl"), "max_seq_len": 10**6, "heldout": 0.5}
    unseen = preparation.prepare(adapter.model_copy(update=changes), TOKENIZER, [TOKENIZER.eos_token_id])
    known = by_bytes("packing")
    prompts, trained_or_judged = (
        {" ".join(example["prompt"].casefold().split()) for example in (*side.train, *side.heldout)}
        for side in (unseen, known)
    )
    assert (unseen.rejects, unseen.duplicates, len(prompts)) == ([], 0, 40)
    assert not prompts & trained_or_judged


def passages(path: str) -> list[str]:
    """Return the texts of a file, a chat's messages joined."""
    lines = [json.loads(line) for line in (ROOT / path).read_text(encoding="utf-8").split("\n") if line]
    return [line.get("text") or "\n".join(message["content"] for message in line["messages"]) for line in lines]


def test_the_calibration_text_is_long_enough():
    calibration = PARAMS.quantize.calibration
    texts = passages(calibration.data)
    assert len(set(texts)) == len(texts)
    # A tokenizer makes at least one token of a word.
    assert sum(len(text.split()) for text in texts) >= calibration.rows * calibration.row_tokens


def test_text_that_quantizers_are_judged_by_is_not_calibrated_on():
    judged, calibrated = passages("data/general.jsonl"), "\n".join(passages(PARAMS.quantize.calibration.data))
    sentences = {sentence for text in judged for sentence in text.split(". ") if len(sentence.split()) > 6}
    assert len(sentences) > 500
    assert not [sentence for sentence in sentences if sentence in calibrated]
