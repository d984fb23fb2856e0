"""Calibration rows, the inputs of a model's decoder layers for them, and the moments of what their linears read."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from passes.activation_aware.fold import Fold
from passes.activation_aware.layers import map_tensors
from press.core.errors import UserError


def choose_rows(batches: Iterable[dict[str, torch.Tensor]], rows: int, row_tokens: int, seed: int) -> torch.Tensor:
    """Join the tokens of all batches, without padding, cut equal rows and choose some of them.

    Rows that have just that many tokens stay whole: each begins as a text does that the model is given.

    :param batches: dicts of input_ids and, if there is padding, attention_mask, both of shape (rows, tokens)
    :param seed: of the choice, where there are more rows than needed
    :return: int64 of shape (rows, row_tokens)
    :raises UserError: if the batches have too few tokens
    """
    pieces = []
    for batch in batches:
        ids = batch["input_ids"]
        pieces.append(ids[batch.get("attention_mask", torch.ones_like(ids)).bool()])
    ids = torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.int64)
    table = ids[: len(ids) // row_tokens * row_tokens].reshape(-1, row_tokens)
    if len(table) < rows:
        raise UserError(
            f"the calibration data has {len(ids)} tokens, but {rows} rows of {row_tokens} need {rows * row_tokens}: "
            "add data, or lower rows or row_tokens"
        )
    chosen = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))[:rows]
    return table[chosen.sort().values]


@dataclass
class LayerInputs:
    """What a model's decoder layers are called with, batch by batch.

    :param hidden: the hidden states that go into the next layer, each of shape (rows, tokens, hidden)
    :param arguments: for each layer and batch, the layer's other arguments
    """

    hidden: list[torch.Tensor]
    arguments: list[list[dict]]

    @classmethod
    @torch.no_grad()
    def record(
        cls, model: nn.Module, layers: Sequence[nn.Module], batches: Sequence[torch.Tensor], device: torch.device
    ) -> "LayerInputs":
        """Run a model with layers that only take down what they are called with, since it differs by layer."""
        recorded: list[list[dict]] = [[] for _ in layers]
        hidden = []

        def recorder(index: int, names: list[str]) -> Callable[..., torch.Tensor]:
            def forward(hidden_states: torch.Tensor, *others, **arguments) -> torch.Tensor:
                recorded[index].append(dict(zip(names, others, strict=False)) | arguments)
                if index == 0:
                    hidden.append(hidden_states)
                return hidden_states

            return forward

        for index, layer in enumerate(layers):
            layer.forward = recorder(index, list(inspect.signature(layer.forward).parameters)[1:])
        try:
            for batch in batches:
                cast(nn.Module, model.base_model)(input_ids=batch, use_cache=False)
        finally:
            for layer in layers:
                del layer.forward
        moved: dict[int, torch.Tensor] = {}

        def move(tensor: torch.Tensor) -> torch.Tensor:
            # Many layers share a tensor: it is moved once.
            if id(tensor) not in moved:
                moved[id(tensor)] = tensor.to(device)
            return moved[id(tensor)]

        arguments = [[map_tensors(batch, move) for batch in layer] for layer in recorded]
        return cls([states.to(device) for states in hidden], arguments)

    def advance(self, layer: nn.Module, index: int) -> None:
        """Replace the hidden states by a layer's output for them."""
        for batch, (states, arguments) in enumerate(zip(self.hidden, self.arguments[index], strict=True)):
            self.hidden[batch] = layer(states, **arguments)


class Moments:
    """The second moment of a linear's inputs and the first of their magnitude, over calibration tokens.

    The Gram matrix H = XᵀX / tokens is all that the loss of a changed weight depends on.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        self.tokens = 0
        self._squares = torch.zeros(width, width, device=device)
        self._magnitudes = torch.zeros(width, device=device)

    def add(self, inputs: torch.Tensor) -> None:
        """Count in inputs of shape (..., width)."""
        inputs = inputs.detach().flatten(0, -2)
        self.tokens += len(inputs)
        self._magnitudes += inputs.abs().sum(0, dtype=torch.float32)
        if inputs.is_cuda and inputs.dtype in (torch.bfloat16, torch.float16):
            # Products of 16-bit numbers are exact in fp32, so that the tensor cores lose nothing.
            self._squares += torch.mm(inputs.T, inputs, out_dtype=torch.float32)
        else:
            self._squares.addmm_(inputs.T.float(), inputs.float())

    @property
    def sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What is added up so far: fp32 of shapes (width, width) and (width,)."""
        return self._squares, self._magnitudes

    @property
    def gram(self) -> torch.Tensor:
        """H, fp32 of shape (width, width); if there was no token, of inputs that are all alike."""
        return self._squares / self.tokens if self.tokens else torch.eye(len(self._squares)).to(self._squares)

    @property
    def magnitude(self) -> torch.Tensor:
        """Mean |X|, fp32 of shape (width,); if there was no token, ones."""
        return self._magnitudes / self.tokens if self.tokens else torch.ones_like(self._magnitudes)


def say_unreached(linears: Sequence[str]) -> None:
    """Say of which experts no calibration token made use, by the names of their linears."""
    experts = sorted({name.rpartition(".")[0] for name in linears})
    if experts:
        print(
            f"note: no token of the calibration rows went to {len(experts)} of the model's experts, such as "
            f"{experts[0]}: these are rounded by their weights alone; more quantize.calibration.rows may reach them"
        )


@contextmanager
def collected(groups: Sequence[Fold], device: torch.device) -> Iterator[list[Moments]]:
    """Collect the moments of what each fold's linears read while the layer runs."""
    moments = [Moments(group.width, device) for group in groups]
    handles = []
    for group, moment in zip(groups, moments, strict=True):
        first = next(iter(group.linears.values()))
        handles.append(first.register_forward_pre_hook(lambda _, inputs, moment=moment: moment.add(inputs[0])))
    try:
        yield moments
    finally:
        for handle in handles:
            handle.remove()
