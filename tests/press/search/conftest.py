"""A search of the project's parameters, in a folder of its own."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from parameters import PARAMS, written

from press.search import settings

RANK = "adapters.travel.lora.rank"
SEARCH = {
    "target": "cpu",
    "objective": "minimize package.bytes",
    "constraints": ["travel.onnx.adapter.loss <= 3"],
    "front": ["minimize travel.onnx.adapter.loss", "minimize package.bytes"],
    "trials": 12,
    "seed": 3,
    "workers": 1,
    "space": {"quantize.group_size": [16, 32, 64], RANK: {"low": 4, "high": 32}},
}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., settings.Spec]:
    """Write params.yaml without its gates, with a changed search and other values, and return the search."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(
        gates: Sequence[str] = (), quantize: dict | None = None, adapters: dict | None = None, **changes: object
    ) -> settings.Spec:
        values = PARAMS | {"gates": list(gates), "search": SEARCH | changes}
        values["quantize"] = PARAMS["quantize"] | (quantize or {})
        values["adapters"] = PARAMS["adapters"] | (adapters or {})
        written(tmp_path, values)
        return settings.load()

    return write_and_load
