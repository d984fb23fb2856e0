"""What the tests of the awq pass share."""

from pathlib import Path

import pytest
from architectures import random_model, save


@pytest.fixture
def llama(in_root: Path) -> Path:
    return save(random_model("llama"), in_root / "llama")
