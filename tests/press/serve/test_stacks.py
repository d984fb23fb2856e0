"""Each row has the values of its own adapter, which rows share, and zeros where another one has more columns."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from press.serve.row_graph import PLACES, SLOTS, WANTED, Projection
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
    _, _, adapter, slot = inputs[PLACES].numpy()[row]
    assert inputs[SLOTS].numpy()[adapter, slot] == row
    down, up = inputs["q.lora_A"].numpy()[0, adapter, 0], inputs["q.lora_B"].numpy()[0, 0, adapter, 0]
    wanted = inputs[WANTED].numpy()[adapter, slot, 0, 0]
    return ((np.ones(3, np.float32) @ down * wanted) @ up + 1) * inputs["q.row_scale"].numpy()[row, 0]


def test_rows_have_their_own_adapters_whatever_was_in_their_places_before():
    small, large, scaled = adapter(1, 0), adapter(3, 1), adapter(2, 2, scaled=True)
    stack = Stack(PROJECTIONS)
    for rows in (
        [small, None, small],
        [large, scaled, None],
        [None, small, large, scaled, None, None],
        [scaled, None, large, scaled],
        [small, large],
        [small],
        [None, None],
        [None],
    ):
        inputs = stack.inputs(rows)
        for place, own in enumerate(rows):
            np.testing.assert_allclose(effect(inputs, place), effect(Stack(PROJECTIONS).inputs([own]), 0), rtol=1e-6)
        assert len(inputs["q.lora_A"].numpy()[0]) == max(len({each for each in rows if each}), 1)
    alone = effect(stack.inputs([None]), 0)
    assert (alone == 1).all()


def test_an_adapter_that_stays_is_written_once(monkeypatch):
    small, large, other = adapter(1, 0), adapter(3, 1), adapter(3, 2)
    stack, written, write = Stack(PROJECTIONS), [], Stack._write

    def counted(stack: Stack, place: int, weights: Weights) -> None:
        written.append(weights)
        write(stack, place, weights)

    monkeypatch.setattr(Stack, "_write", counted)
    for rows in ([small, large], [large, small, small], [None, large], [large, other], [small, None, large]):
        stack.inputs(rows)
    assert written == [small, large, other, small]


def test_an_adapter_alone_is_not_copied():
    own = adapter(2, 0)
    inputs = Stack(PROJECTIONS).inputs([own, own, None])
    own.side(PROJECTIONS[0], ".lora_A")[:] = 7
    assert (inputs["q.lora_A"].numpy() == 7).all()
