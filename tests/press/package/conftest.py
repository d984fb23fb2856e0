"""A package's metrics, and its card."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from press.package import card
from press.params import gates, settings

PARAMS = settings.load(Path(__file__).parents[3] / "params.yaml")


def rungs(start: float, **names: tuple[str, ...]) -> dict:
    """Scores of rungs by runtime, with a different figure in each place."""
    found: dict = {}
    for index, (of, rung) in enumerate((of, rung) for of, some in names.items() for rung in some):
        loss = start + index / 8
        score = {"loss": loss, "perplexity": loss + 100}
        if rung != "base":
            score |= {"kl": loss / 100, "agreement": 1 - loss / 10}
        found.setdefault(of, {})[rung] = score
    return found


def text(start: float) -> dict:
    """An adapter's metrics."""
    return {
        **rungs(start, pytorch=("base", "quantized", "head", "adapter"), onnx=("bare", "adapter")),
        "general": rungs(start + 1, pytorch=("adapter",), onnx=("adapter",)),
        "attribution": {"weights": 0.5, "lm_head": 0.25, "activations": -0.125, "adapter_conversion": start / 1000},
        "ended": {"bare": 0.5, "adapter": 1.0},
        "looping": {"bare": 0.25, "adapter": 0.0},
    }


@pytest.fixture
def metrics() -> dict:
    """What `evaluate` and `package` tell of a package with two adapters."""
    packing = text(1)
    for adapted in (packing["pytorch"]["adapter"], packing["onnx"]["adapter"]):
        adapted |= {"valid": 0.97, "exact": 0.11, "fields": 0.64}
    packing["onnx"]["bare"] |= {"valid": 0.03, "exact": 0.0, "fields": 0.02}
    travel = text(2)
    travel["onnx"]["adapter"] |= {"chrf": 0.31}
    return {
        "packing": packing,
        "travel": travel,
        "general": {
            **rungs(3, pytorch=("base", "quantized", "head"), onnx=("bare",)),
            "attribution": {"weights": 0.1, "lm_head": 0.01, "activations": 0.001},
        },
        "bytes": {"base": 2e6, "quantized": 1e6, "captured": 6e5, "adapters": {"packing": 1e5, "travel": 2e5}},
        "package": {"bytes": 950_000},
    }


@pytest.fixture
def params() -> settings.Settings:
    """The parameters of the project."""
    return PARAMS


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The folder of a base model that came with a licence; without its weights."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "LICENSE").write_text("Terms.\n", encoding="utf-8")
    return folder


@pytest.fixture
def render(base: Path) -> Callable[..., str]:
    """Render the card of the target cpu."""

    def rendered(metrics: dict, params: settings.Settings = PARAMS, results: Sequence[gates.Result] = ()) -> str:
        return card.render("cpu", params, metrics, list(results), base)

    return rendered
