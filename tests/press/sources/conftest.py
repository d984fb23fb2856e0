"""What the tests of sources share."""

from pathlib import Path

import pytest

from .models import built


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny random model."""
    return built(tmp_path_factory.mktemp("sources") / "model")
