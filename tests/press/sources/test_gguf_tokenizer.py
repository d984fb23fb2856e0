"""A GGUF file's tokenizer gives llama.cpp's tokens, of which those of a thousand texts are recorded."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from bench import gguf_tokens
from bench.runtime import contestants
from press.core import files
from press.core.errors import UserError
from press.sources import gguf_tokenizer, tokenizers

RECORD = files.read_json(gguf_tokens.RECORD)
VOCABULARY, MERGES = RECORD["tokens"].split(" "), RECORD["merges"].split("\n")
TEXTS = gguf_tokens.texts()
BYTES = tokenizers.of_bytes()


def pre_tokenizer(name: str | None) -> pre_tokenizers.PreTokenizer | None:
    """Return what splits a text before a GGUF's tokenizer sees it."""
    tokenizer = tokenizers.of_bytes()
    gguf_tokenizer.set_pre_tokenizer(tokenizer, "a.gguf", name)
    return tokenizer.backend_tokenizer.pre_tokenizer


def recorded(name: str) -> list[str]:
    """Return the recorded digest of each text's tokens."""
    digests, size = RECORD["digests"][name], gguf_tokens.DIGITS
    return [digests[start : start + size] for start in range(0, len(digests), size)]


SMOLLM = pre_tokenizer("smollm")
# As the model's own tokenizer.json on the hub has it.
OWN = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)


@given(st.text(st.sampled_from(" \n\t12½٣Ⅷaé'sd.!—你🙂\u00a0\u3000")) | st.text())
def test_smollm_splits_as_the_model_s_own_tokenizer(text):
    assert [part for part, _ in SMOLLM.pre_tokenize_str(text)] == [part for part, _ in OWN.pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("smollm", "plan:\n  12 days", ["plan", ":", "ĊĠĠ", "1", "2", "Ġdays"]),
        ("gpt-2", "in  12 days", ["in", "Ġ", "Ġ12", "Ġdays"]),
        ("deepseek-v3", "a1234 中文b", ["a", "123", "4", "Ġ", "ä¸ŃæĸĩĠb".removesuffix("Ġb"), "b"]),
        ("glm4", "12345'S", ["123", "45", "'S"]),
        ("hunyuan", "123 's", ["1", "2", "3", "Ġ'", "s"]),
        ("default", "$12345", ["$", "123", "45"]),
    ],
)
def test_a_text_is_split_where_the_pre_tokenizer_says(name, text, parts):
    assert [part for part, _ in pre_tokenizer(name).pre_tokenize_str(text)] == parts


@pytest.mark.parametrize("name", ["qwen2", "llama-bpe"])
def test_what_transformers_splits_itself_is_left_to_it(name):
    assert pre_tokenizer(name).__getstate__() == BYTES.backend_tokenizer.pre_tokenizer.__getstate__()


@pytest.mark.parametrize(
    ("name", "shown"), [("superbpe", "superbpe"), ("deepseek-llm", "deepseek-llm"), (None, "(none)")]
)
def test_an_unknown_pre_tokenizer_is_refused_by_its_name(name, shown):
    with pytest.raises(UserError) as caught:
        pre_tokenizer(name)
    message = str(caught.value)
    assert message.startswith(
        f"a.gguf names the pre-tokenizer {shown} (tokenizer.ggml.pre), but those that are known are "
    )
    assert ", smollm, " in message


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ({"eos": 2}, [2]),
        ({"eos": 2, "eot": 5, "eom": 7}, [2, 5, 7]),
        ({"eos": 2, "eot": 2}, [2]),
        ({"eot": 0}, [0]),
        ({}, []),
    ],
)
def test_an_answer_ends_with_each_of_the_tokens_that_the_file_names(ids, expected):
    assert gguf_tokenizer.ends({f"tokenizer.ggml.{name}_token_id": token for name, token in ids.items()}) == expected


def test_there_are_a_thousand_texts_and_what_llama_cpp_approximates_is_few_of_them():
    assert len(set(TEXTS)) > 990
    assert sum(gguf_tokens.is_approximated("qwen2", text) for text in TEXTS) <= 20
    assert {len(recorded(name)) for name in RECORD["digests"]} == {len(TEXTS)}


@pytest.mark.integration
@pytest.mark.parametrize("name", list(RECORD["digests"]))
def test_awkward_texts_have_llama_cpp_s_tokens(tmp_path, name):
    path = gguf_tokens.written(tmp_path, [name], VOCABULARY, MERGES)[name]
    found = map(gguf_tokens.digest, gguf_tokens.ours(path, TEXTS))
    differing = [text for text, own, other in zip(TEXTS, found, recorded(name), strict=True) if own != other]
    assert [text for text in differing if not gguf_tokens.is_approximated(name, text)] == []


@pytest.mark.integration
def test_the_record_is_what_llama_cpp_says(tmp_path):
    if not (shutil.which("node") and (contestants.NPM / "node_modules/node-llama-cpp").exists()):
        pytest.skip("it needs node-llama-cpp: npm ci in bench/npm, as python -m bench.gguf_tokens does")
    paths = gguf_tokens.written(tmp_path, RECORD["digests"], VOCABULARY, MERGES)
    for name, found in zip(paths, gguf_tokens.llama(list(paths.values()), TEXTS), strict=True):
        assert [*map(gguf_tokens.digest, found["tokens"])] == recorded(name), name


@pytest.mark.integration
def test_a_control_token_whose_name_is_not_of_bytes_alphabet_is_one_token(tmp_path):
    bar = "<｜User｜>"
    keys = {"pre": "deepseek-r1-qwen"}
    path = gguf_tokens.write(Path(tmp_path / "a.gguf"), keys, VOCABULARY, MERGES)
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": keys["pre"],
        "tokenizer.ggml.token_type": [3 if name in gguf_tokens.CONTROL else 1 for name in VOCABULARY],
    }
    tokenizer = gguf_tokenizer.read(path, metadata)
    assert tokenizer(bar)["input_ids"] == [VOCABULARY.index(bar)]
    assert VOCABULARY.index(bar) in tokenizer.all_special_ids or bar in tokenizer.added_tokens_encoder
    assert len(tokenizer) == len(VOCABULARY)
    assert tokenizer.decode(VOCABULARY.index(bar)) == bar
    assert tokenizer.eos_token == "<|im_end|>"
