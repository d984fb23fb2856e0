"""A checkpoint in a folder is taken by its digest, without what is no part of it."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

from press.core import files
from press.core.errors import UserError
from press.params import schema
from press.sources import fetching, folder


@pytest.mark.integration
def test_a_folder_of_another_digest_is_refused_with_its_digest_and_taken_with_it(model, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    digest = files.folder_digest(model)
    with pytest.raises(UserError) as caught:
        folder.bring(schema.LocalSource(path=str(model), sha256=""), fetching.KEPT, first)
    assert str(caught.value) == (
        f"the checkpoint in {model} has the digest {digest}, but base.local.sha256 in params.yaml is '': "
        "if this is the model you mean, write its digest there"
    )
    folder.bring(schema.LocalSource(path=str(model), sha256=digest), fetching.KEPT, second)
    assert files.digests(second) == files.digests(model)


def test_a_folder_that_is_none_is_a_sentence(tmp_path):
    source = schema.LocalSource(path=str(tmp_path / "no"), sha256="")
    with pytest.raises(UserError, match=r"^base\.local\.path names .*/no, which is not a folder"):
        folder.bring(source, fetching.KEPT, tmp_path)


def test_only_a_checkpoint_s_files_are_copied(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub.safetensors").mkdir(parents=True)
    target.mkdir()
    taken = {"config.json", "model-00001-of-2.safetensors", "tokenizer.json", "LICENSE.txt", "NOTICE"}
    for name in (*taken, "model.bin", "modeling.py", "optimizer.pt", "notes.md"):
        (source / name).touch()
    save_file({"weight": torch.zeros(1)}, source / "model-00001-of-2.safetensors")
    files.write_json(source / "config.json", {"model_type": "llama"})
    folder.copy_checkpoint(source, fetching.KEPT, target)
    assert {path.name for path in target.iterdir()} == taken


@pytest.mark.integration
def test_a_folder_that_does_not_fit_on_the_disk_is_refused(model, tmp_path, small_disk):
    source = shutil.copytree(model, tmp_path / "model")
    with (source / "tokenizer.model").open("wb") as sparse:
        sparse.truncate(10**10)
    with pytest.raises(UserError, match=rf"^{source} needs 10\.0 GB of disk in {small_disk}, which has 4\.2 MB left"):
        folder.copy_checkpoint(source, fetching.KEPT, small_disk)
    assert not any(small_disk.iterdir())


def test_half_a_download_is_refused_by_name(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match=r"model\.safetensors is damaged or half downloaded"):
        folder.copy_checkpoint(tmp_path, fetching.KEPT, tmp_path)
