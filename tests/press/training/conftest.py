"""What the tests of `prepare` share."""

from pathlib import Path

import pytest

from press.params import schema

from .data_sets import adapter


@pytest.fixture
def write(tmp_path: Path):
    """Write lines as a data set and return its adapter's parameters."""

    def write(lines: list[bytes], **changes: object) -> schema.Adapter:
        path = tmp_path / "data.jsonl"
        path.write_bytes(b"".join(each + b"\n" for each in lines))
        return adapter(path, **changes)

    return write
