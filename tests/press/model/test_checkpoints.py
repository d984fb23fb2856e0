"""Loading checkpoints without silent failures."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from projects import ROOT
from safetensors.torch import load_file, save_file

from press.core import files
from press.core.errors import UserError
from press.model import checkpoints


def test_a_checkpoint_without_one_of_its_weights_is_refused(tiny_quantized, tmp_path):
    folder = shutil.copytree(tiny_quantized, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.scales"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        UserError, match=r"lacks 1 of the model's weights, such as model\.layers\.1\.mlp\.up_proj\.scales"
    ):
        checkpoints.load(folder)


def test_tied_weights_are_not_missing(tiny_base):
    assert "lm_head.weight" not in checkpoints.weight_shapes(tiny_base)
    assert checkpoints.load(tiny_base).config.tie_word_embeddings


def test_rows_are_the_same_for_a_plain_and_a_quantized_checkpoint(tiny_base, tiny_quantized):
    rows = checkpoints.module_rows(tiny_quantized)
    assert rows == checkpoints.module_rows(tiny_base)
    assert rows["model.layers.0.self_attn.k_proj"] == 32


def test_end_of_turn_ids_come_from_the_generation_config(tiny_base):
    assert checkpoints.eos_ids(tiny_base) == [258]


def test_end_of_turn_ids_are_those_of_the_config_where_the_generation_config_has_none(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    generation = files.read_json(folder / "generation_config.json")
    del generation["eos_token_id"]
    files.write_json(folder / "generation_config.json", generation)
    assert checkpoints.eos_ids(folder) == [258]


@pytest.mark.parametrize(
    ("name", "reason"), [("pytorch_model.bin", "only pickled weights"), ("notes.txt", "no weights")]
)
def test_a_folder_without_safetensors_is_refused(tmp_path, name, reason):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=reason):
        checkpoints.weight_shapes(tmp_path)


def indexed(folder, text):
    for name in ("model-00001-of-00002.safetensors", "model-00003-of-00002.safetensors"):
        save_file({name: torch.zeros(1)}, folder / name)
    (folder / checkpoints.INDEX).write_text(text, encoding="utf-8")
    return folder


def test_a_shard_that_the_index_names_is_missed(tmp_path):
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    folder = indexed(tmp_path, json.dumps({"weight_map": weights}))
    with pytest.raises(UserError) as caught:
        checkpoints.weight_shapes(folder)
    assert str(caught.value) == (
        f"{folder} lacks 1 of the 2 files that its model.safetensors.index.json names, such as "
        "model-00002-of-00002.safetensors"
    )


def test_weights_that_no_index_names_are_not_the_model_s(tmp_path):
    name = "model-00001-of-00002.safetensors"
    assert checkpoints.weight_shapes(indexed(tmp_path, json.dumps({"weight_map": {"a": name}}))) == {name: (1,)}


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', "{}"])
def test_a_damaged_index_is_a_sentence(tmp_path, text):
    with pytest.raises(UserError, match=r"has a damaged or half downloaded model\.safetensors\.index\.json"):
        checkpoints.weight_shapes(indexed(tmp_path, text))


FREED = """
import sys
import weakref
from pathlib import Path

from press.core import memory
from press.model import checkpoints


def work():
    model = checkpoints.load(Path(sys.argv[1]))
    return weakref.ref(model)


model = work()
memory.give_back()
sys.exit("the model is still in memory" if model() else 0)
"""


def test_a_model_is_gone_when_who_loaded_it_is_done(tiny_base):
    subprocess.run([sys.executable, "-c", FREED, str(tiny_base)], cwd=ROOT, check=True)
