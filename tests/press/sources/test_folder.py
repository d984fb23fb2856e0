"""A checkpoint in a folder is taken by its digest, without what is no part of it."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from press.core import files
from press.core.errors import UserError
from press.params import schema
from press.sources import folder


@pytest.mark.integration
def test_a_folder_of_another_digest_is_refused_with_its_digest_and_taken_with_it(model, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    digest = files.folder_digest(model)
    with pytest.raises(UserError) as caught:
        folder.bring(schema.LocalSource(path=str(model), sha256=""), False, first)
    assert str(caught.value) == (
        f"the checkpoint in {model} has the digest {digest}, but base.local.sha256 in params.yaml is '': "
        "if this is the model you mean, write its digest there"
    )
    folder.bring(schema.LocalSource(path=str(model), sha256=digest), False, second)
    assert files.digests(second) == files.digests(model)


def test_a_folder_that_is_none_is_a_sentence(tmp_path):
    source = schema.LocalSource(path=str(tmp_path / "no"), sha256="")
    with pytest.raises(UserError, match=r"^base\.local\.path names .*/no, which is not a folder"):
        folder.bring(source, False, tmp_path)


def test_only_a_checkpoint_s_files_are_copied(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub.safetensors").mkdir(parents=True)
    target.mkdir()
    taken = {"config.json", "model-00001-of-2.safetensors", "tokenizer.json", "LICENSE.txt", "NOTICE"}
    for name in (*taken, "model.bin", "modeling.py", "tokenizer_x.py", "optimizer.pt", "notes.md"):
        (source / name).touch()
    save_file({"weight": torch.zeros(1)}, source / "model-00001-of-2.safetensors")
    files.write_json(source / "config.json", {"model_type": "llama"})
    folder.copy_checkpoint(source, False, target)
    assert {path.name for path in target.iterdir()} == taken


@pytest.mark.integration
def test_a_folder_that_does_not_fit_on_the_disk_is_refused(model, tmp_path, small_disk):
    source = shutil.copytree(model, tmp_path / "model")
    with (source / "tokenizer.model").open("wb") as sparse:
        sparse.truncate(10**10)
    with pytest.raises(UserError, match=rf"^{source} needs 10\.0 GB of disk in {small_disk}, which has 4\.2 MB left"):
        folder.copy_checkpoint(source, False, small_disk)
    assert not any(small_disk.iterdir())


def test_half_a_download_is_refused_by_name(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match=r"model\.safetensors is damaged or half downloaded"):
        folder.copy_checkpoint(tmp_path, False, tmp_path)


def checkpoint(folder: Path) -> Path:
    """Make a folder that passes for a checkpoint."""
    folder.mkdir(parents=True)
    files.write_json(folder / "config.json", {"model_type": "llama"})
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


def refusal(source: Path, target: Path) -> str:
    """Copy what cannot be copied; return the sentence."""
    target.mkdir()
    with pytest.raises(UserError) as caught:
        folder.copy_checkpoint(source, False, target)
    assert not list(target.iterdir())
    return str(caught.value)


@pytest.mark.parametrize("name", ["LICENSE", "config.json", "model.safetensors"])
def test_a_link_out_of_the_folder_is_refused_by_its_name(tmp_path, name):
    source, secret = checkpoint(tmp_path / "source"), tmp_path / "secret"
    secret.write_text("root:x", encoding="utf-8")
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to(secret)
    assert refusal(source, tmp_path / "target") == (
        f"{source / name} is a link to {secret}, outside of the checkpoint: put the file itself in its place"
    )


@pytest.mark.parametrize("name", ["..", "inside"])
def test_a_link_to_a_folder_is_refused(tmp_path, name):
    source = checkpoint(tmp_path / "source")
    (source / "inside").mkdir()
    (source / "vocab.json").symlink_to(name)
    assert refusal(source, tmp_path / "target").startswith(f"{source / 'vocab.json'} is ")


def test_a_link_to_nothing_is_refused(tmp_path):
    source = checkpoint(tmp_path / "source")
    (source / "LICENSE").symlink_to("LICENCE")
    assert refusal(source, tmp_path / "target") == (
        f"{source / 'LICENSE'} is no file: put the file itself in its place, or remove it"
    )


def test_a_pipe_is_refused(tmp_path):
    source = checkpoint(tmp_path / "source")
    os.mkfifo(source / "NOTICE")
    assert "NOTICE is no file" in refusal(source, tmp_path / "target")


def test_links_within_the_folder_and_to_the_folder_are_taken_as_files(tmp_path):
    source, target = checkpoint(tmp_path / "source"), tmp_path / "target"
    (source / "LICENSE").symlink_to("config.json")
    (tmp_path / "link").symlink_to(source)
    target.mkdir()
    folder.copy_checkpoint(tmp_path / "link", False, target)
    assert files.digests(target) == files.digests(source)
    assert not any(path.is_symlink() for path in target.iterdir())


def snapshot(model: Path) -> Path:
    """Lay out a checkpoint as the hub client's cache has it; return the snapshot."""
    source, blobs = checkpoint(model / "snapshots/5f"), model / "blobs"
    blobs.mkdir()
    for path in list(source.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(f"../../blobs/{path.name}")
    return source


def test_a_snapshot_of_the_hub_s_cache_is_taken_with_its_blobs(tmp_path):
    source, target = snapshot(tmp_path / "models--owner--name"), tmp_path / "target"
    target.mkdir()
    folder.copy_checkpoint(source, False, target)
    assert files.digests(target) == files.digests(source)


def test_a_blob_that_is_itself_a_link_out_of_the_cache_is_refused(tmp_path):
    source, secret = snapshot(tmp_path / "models--owner--name"), tmp_path / "secret"
    secret.write_text("root:x", encoding="utf-8")
    (tmp_path / "models--owner--name/blobs/LICENSE").symlink_to(secret)
    (source / "LICENSE").symlink_to("../../blobs/LICENSE")
    assert f"LICENSE is a link to {secret}, outside of the checkpoint" in refusal(source, tmp_path / "target")
