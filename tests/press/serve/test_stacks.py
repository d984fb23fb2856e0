"""Each row of a batch has the values of its own adapter, and zeros where another one has more columns."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from press.serve.row_graph import Projection
from press.serve.stacks import Stack, Weights

PROJECTIONS = [Projection("q", 3, 4, np.dtype(np.float32), True), Projection("o", 2, 2, np.dtype(np.float32), False)]


def adapter(rank: int, seed: int, *, scaled: bool = False) -> Weights:
    draw = np.random.default_rng(seed).standard_normal
    values = {"q.lora_A": draw((3, rank)), "q.lora_B": draw((rank, 4))}
    if scaled:
        values["q.row_scale"] = draw(4)
    return Weights({name: value.astype(np.float32) for name, value in values.items()}, PROJECTIONS)


def effect(inputs: dict, row: int) -> np.ndarray:
    """Return what the first projection adds to a row of ones, and multiplies it by."""
    down, up, scale = (inputs[f"q.{name}"].numpy()[row] for name in ("lora_A", "lora_B", "row_scale"))
    return (np.ones(3, np.float32) @ down @ up + 1) * scale[0]


def test_rows_have_their_own_adapters_whatever_was_in_their_places_before():
    small, large, scaled = adapter(1, 0), adapter(3, 1), adapter(2, 2, scaled=True)
    stack = Stack(PROJECTIONS)
    for rows in ([small, None], [large, scaled, None], [None, small, large, scaled], [scaled, large], [small], [None]):
        inputs = stack.inputs(rows)
        for place, own in enumerate(rows):
            np.testing.assert_allclose(effect(inputs, place), effect(Stack(PROJECTIONS).inputs([own]), 0), rtol=1e-6)
        assert inputs["o.lora_A"].numpy().shape[:2] == (len(rows), 2)
    alone = effect(stack.inputs([None]), 0)
    assert (alone == 1).all()


def test_an_adapter_alone_is_not_copied():
    own = adapter(2, 0)
    inputs = Stack(PROJECTIONS).inputs([own])
    own.side(PROJECTIONS[0], ".lora_A")[:] = 7
    assert (inputs["q.lora_A"].numpy() == 7).all()
