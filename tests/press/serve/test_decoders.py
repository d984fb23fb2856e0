"""Rows of one batch answer as onnxruntime-genai's generators do, each by itself, whoever comes, goes or is beside."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime_genai")

from press.core import files
from press.core.errors import UserError
from press.model import packaged
from press.serve import decoders
from press.serve.decoders import Asked, Decoder, Generator, Rows, Turns

pytestmark = pytest.mark.integration
ROOM, TOKENS = 256, 24
Written = tuple[list[int], list[np.ndarray]]
SCHEMA = json.dumps({"type": "object", "properties": {"days": {"enum": [3, 4]}}, "additionalProperties": False})
GREEDY = {"temperature": 0, "repetition_penalty": 1.0}
SAMPLED = {"temperature": 1.5, "repetition_penalty": 1.2, "top_p": 0.95, "top_k": 40}
# Adapters of ranks 4 and 5, and none; greedy, sampled and held to a schema.
ASKED = [
    ("travel", "a week in Rome", Asked(GREEDY)),
    ("packing", "b", Asked(GREEDY)),
    (None, "a weekend by the sea", Asked(GREEDY)),
    ("packing", "three days of hiking " * 9, Asked(SAMPLED, seed=3)),
    ("travel", "by the sea", Asked(SAMPLED, SCHEMA, seed=4)),
    (None, "in Bonn", Asked(GREEDY, SCHEMA)),
]


def loaded(package: Path) -> dict:
    return packaged.runtime_config(package / "genai_config.json")


@pytest.fixture(scope="module")
def rows(package: Path) -> Decoder:
    decoder = decoders.load(package, loaded(package), 1)
    assert isinstance(decoder, Rows)
    return decoder


@pytest.fixture(scope="module")
def adapters(package: Path, rows: Decoder) -> dict:
    return {name: rows.load(package / f"adapters/{name}/adapter.onnx_adapter") for name in ("travel", "packing")}


def begun(decoder: Decoder, adapters: dict, name: str | None, text: str, asked: Asked, room: int = ROOM) -> Generator:
    generator = decoder.generator(adapters.get(name), room, asked)
    prompt = [int(token) for token in decoder.tokenizer.encode(text)]
    for start in range(0, len(prompt), 100):
        generator.append_tokens(prompt[start : start + 100])
    return generator


def written(generator: Generator, most: int = TOKENS) -> Written:
    """Return tokens, and the logits that each was chosen by."""
    tokens, logits = [], []
    while len(tokens) < most and not generator.is_done():
        # Which change where they are chosen from.
        logits.append(np.array(generator.get_logits(), copy=True).reshape(-1))
        generator.generate_next_token()
        tokens.append(int(generator.get_next_tokens()[0]))
    return tokens, logits


def together(decoder: Decoder, generators: Sequence[Generator], most: int = TOKENS) -> list[Written]:
    """Let generators take turns; the second one goes early, so that the last one takes its seat."""
    texts: list[Written] = [([], []) for _ in generators]
    there = dict(enumerate(generators))
    for turn in range(most):
        for place, generator in list(there.items()):
            if generator.is_done() or (place == 1 and turn >= most // 3):
                decoder.leave(there.pop(place))
            else:
                tokens, logits = written(generator, 1)
                texts[place][0].extend(tokens)
                texts[place][1].extend(logits)
    for generator in there.values():
        decoder.leave(generator)
    return texts


def test_a_row_alone_has_the_logits_and_tokens_of_the_runtimes_generator(package, rows, adapters):
    turns = Turns(package, 1)
    theirs = {name: turns.load(package / f"adapters/{name}/adapter.onnx_adapter") for name in adapters}
    for name, text, asked in ASKED:
        expected = written(begun(turns, theirs, name, text, asked))
        row = begun(rows, adapters, name, text, asked)
        tokens, logits = written(row)
        rows.leave(row)
        assert tokens == expected[0], (name, text)
        for mine, own in zip(logits, expected[1], strict=True):
            # Of sampled answers, the runtime has divided them by the temperature already, once it has chosen.
            np.testing.assert_allclose(mine, own, atol=1e-4, rtol=0)


def test_rows_with_adapters_settings_and_schemas_of_their_own_answer_as_alone(rows, adapters):
    alone = []
    for each in ASKED:
        row = begun(rows, adapters, *each)
        alone.append(written(row))
        rows.leave(row)
    assert len({tuple(tokens) for tokens, _ in alone}) == len(ASKED)
    alone[1] = tuple(each[: TOKENS // 3] for each in alone[1])
    texts = together(rows, [begun(rows, adapters, *each) for each in ASKED])
    assert [tokens for tokens, _ in texts] == [tokens for tokens, _ in alone]
    for (_, mine), (_, own) in zip(texts, alone, strict=True):
        # Equal where activations are rounded to int8; in this model, products of one row have kernels of their own.
        np.testing.assert_allclose(mine, own, atol=1e-4, rtol=0)


def test_one_that_comes_later_and_needs_more_room_changes_nothing(rows, adapters):
    early = [begun(rows, adapters, *each, room=64) for each in ASKED[:3]]
    texts = [written(each, 5)[0] for each in early]
    late = begun(rows, adapters, "packing", "a week in Rome " * 12, Asked(GREEDY))
    for _ in range(5):
        for place, generator in enumerate(early):
            texts[place] += written(generator, 1)[0]
        written(late, 1)
    for generator in (late, *early):
        rows.leave(generator)
    for each, text in zip(ASKED, texts, strict=False):
        row = begun(rows, adapters, *each)
        assert written(row, 10)[0] == text
        rows.leave(row)


def test_a_row_goes_on_from_what_it_read(rows, adapters):
    row = begun(rows, adapters, *ASKED[0])
    first = written(row, 6)[0]
    rows.leave(row)
    row.rewind_to(4)
    row.append_tokens([int(token) for token in rows.tokenizer.encode(ASKED[0][1])][4:])
    assert written(row, 6)[0] == first
    rows.leave(row)


def test_an_adapter_that_is_none_of_the_graphs_is_refused(package, tmp_path, rows):
    import onnxruntime as ort

    def adapter_of(name: str, shape: tuple[int, ...]) -> Path:
        values = np.zeros(shape, np.float32)
        file = ort.AdapterFormat()
        file.set_parameters({name: ort.OrtValue.ortvalue_from_numpy(values)})
        file.export_adapter(str(tmp_path / "adapter.onnx_adapter"))
        return tmp_path / "adapter.onnx_adapter"

    own = files.read_json(package / "lora_inputs.json")["projections"][0]
    with pytest.raises(RuntimeError, match="no input hotel"):
        rows.load(adapter_of("hotel", (2, 2)))
    with pytest.raises(RuntimeError, match="shape and type"):
        rows.load(adapter_of(f"{own['name']}.lora_A", (own["width_in"], 4)))


def test_a_model_that_has_no_rows_takes_turns_and_the_log_says_why(package, caplog):
    caplog.set_level(logging.INFO)
    config = loaded(package)
    config["model"]["decoder"]["sliding_window"] = {"window_size": 8}
    assert isinstance(decoders.load(package, config, 1), Turns)
    assert "take turns" in caplog.text
    assert "does not remember all of a text" in caplog.text
    with pytest.raises(UserError, match="cannot be loaded"):
        decoders.load(package / "adapters", config, 1)
