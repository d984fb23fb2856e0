"""Train as one process or as several, with the same result: the same batches, and means over all their tokens."""

import contextlib
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar, cast, overload

import torch
import transformers
from olive.data.constants import IGNORE_INDEX
from transformers.trainer_utils import EvalLoopOutput

from passes.batches import labelled_loss

T = TypeVar("T")


def epochs(examples: int, seed: int) -> Iterator[list[int]]:
    """Yield the indices of all examples in an order of chance, then in another, and so on."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randperm(examples, generator=generator).tolist()


class Picked(Sequence[dict], Generic[T]):
    """Examples in an order, each read or made when it is asked for.

    :param make: gives an example for what stands in the order
    """

    def __init__(self, make: Callable[[T], dict], order: Sequence[T]) -> None:
        self._make = make
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> dict: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict]: ...

    def __getitem__(self, index: int | slice) -> dict | list[dict]:
        if isinstance(index, slice):
            return [self._make(each) for each in self._order[index]]
        return self._make(self._order[index])


def training_order(examples: Sequence[dict], count: int, seed: int) -> Sequence[dict]:
    """Return `count` examples: all of them in an order of chance, then all in another, and so on.

    Unlike the Trainer's own order, it has no smaller batch at the end of an epoch, which several processes would
    fill up with examples of their own choice.
    """
    order: list[int] = []
    for epoch in epochs(len(examples), seed):
        order += epoch
        if len(order) >= count:
            break
    return Picked(examples.__getitem__, order[:count])


class TokenMeanTrainer(transformers.Trainer):
    """A Trainer whose held-out loss is the mean over all tokens that have a label, like its training loss.

    The Trainer's own is a mean over batches, which depends on how many there are, and so on the number of processes.

    :param labelled_only: whether batches ask for the logits of labelled tokens alone
    :param compiled: whether the model's layers are compiled, for training
    """

    def __init__(self, *, labelled_only: bool = False, compiled: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments, compute_loss_func=labelled_loss if labelled_only else None)
        self._compiled = compiled

    def evaluation_loop(
        self,
        dataloader: torch.utils.data.DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Return the loss in nats a token, summed in float64 over the processes; no predictions are kept."""
        model = cast(torch.nn.Module, self.model)
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        for batch in dataloader:
            inputs = self._prepare_inputs(batch)
            # The first token is nobody's next.
            tokens = inputs["labels"][:, 1:].ne(IGNORE_INDEX).sum()
            with torch.no_grad(), self.compute_loss_context_manager(), self._uncompiled():
                loss = self._mean_loss(model, inputs)
            sums += torch.stack([loss.double() * tokens, tokens.double()])
        loss, tokens = self.accelerator.reduce(sums).tolist()
        metrics = {f"{metric_key_prefix}_loss": loss / tokens}
        # As the Trainer's own loop has it where it keeps none, whatever the type says.
        nothing: Any = None
        count = len(cast(Sized, dataloader.dataset))
        return EvalLoopOutput(predictions=nothing, label_ids=None, metrics=metrics, num_samples=count)

    def _mean_loss(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if self.compute_loss_func is None:
            return model(**inputs).loss
        labels = inputs.pop("labels")
        return labelled_loss(model(**inputs), labels)

    def _uncompiled(self) -> contextlib.AbstractContextManager:
        """Let the few batches without gradients run as they are: they would be compiled anew."""
        return torch.compiler.set_stance("force_eager") if self._compiled else contextlib.nullcontext()
