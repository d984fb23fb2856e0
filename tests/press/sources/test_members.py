"""What of a source's files belongs to a checkpoint, and that no Python file does unless it is trusted."""

import pytest

from press.sources import members


@pytest.mark.parametrize(
    "name",
    [
        "model-00001-of-00002.safetensors",
        "config.json",
        "tokenizer.model",
        "tokenizer.model.v3",
        "tokenizer_config.json",
        "vocab.txt",
        "chat_template.jinja",
        "NOTICE",
    ],
)
def test_a_checkpoint_s_files_are_kept(name):
    assert members.is_kept(name, trust=False)
    assert members.is_kept(name, trust=True)


@pytest.mark.parametrize(
    "name",
    [
        *("pytorch_model.bin", "optimizer.pt", "notes.md", "adapter_config.json", "config.json.py2"),
        *("LICENSE.pyc", "NOTICE.SO", "COPYING.pyd"),
        *("tokenizer.pkl", "tokenizer_x.pyc", "vocab.pkl", "chat_template.so", "tokenizer.model.pkl"),
    ],
)
def test_others_are_not(name):
    assert not members.is_kept(name, trust=True)
    assert not members.is_legal(name)


@pytest.mark.parametrize(
    "name",
    ["modeling.py", "tokenizer_x.py", "vocab.py", "chat_template.py", "LICENSE.py", "NOTICE.PY", "a.safetensors.py"],
)
def test_python_files_are_kept_only_if_trusted_whatever_their_names(name):
    assert not members.is_kept(name, trust=False)
    assert members.is_kept(name, trust=True)
    assert not members.is_legal(name)
