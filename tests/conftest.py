"""What several tests share: a tiny random checkpoint and its quantized form."""

import os
from pathlib import Path

import pytest
import torch

from press import command, files, settings, sources
from stages import quantize

os.environ.update(command.ENVIRONMENT)
torch.set_num_threads(2)

ROOT = Path(__file__).parent.parent
TINY_LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.3,  # large enough that a wrong branch shows in the logits
}


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama of two layers with a byte-level tokenizer, in fp32."""
    folder = tmp_path_factory.mktemp("base")
    sources.from_random(settings.RandomSource(config=TINY_LLAMA), 0, folder)
    return folder


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder in which stages can run: the project's passes, and nothing else."""
    (tmp_path / "passes").symlink_to(ROOT / "passes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny_quantized(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base, quantized to int4 by Olive."""
    folder = tmp_path_factory.mktemp("quantized")
    (folder / "passes").symlink_to(ROOT / "passes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        params = settings.load(ROOT / "params.yaml").quantize
        building = folder / "building"
        building.mkdir()
        files.publish(quantize.quantize(params, tiny_base, building), folder / "quantized")
    return folder / "quantized"
