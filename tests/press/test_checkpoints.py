"""Loading checkpoints without silent failures."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from press import checkpoints
from press.errors import UserError


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


@pytest.mark.parametrize(
    ("name", "reason"), [("pytorch_model.bin", "only pickled weights"), ("notes.txt", "no weights")]
)
def test_a_folder_without_safetensors_is_refused(tmp_path, name, reason):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=reason):
        checkpoints.weight_shapes(tmp_path)
