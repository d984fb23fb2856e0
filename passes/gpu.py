"""How a training runs on a GPU: compiled, if it is long enough to pay for it, and with the same bytes each time."""

import contextlib
import inspect
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

# To compile decoder layers takes about 11 s for one length of sequences, with the compiler's import, and saves 2.4 ms
# each time that a layer is passed, forward and backward; at least twice that where activations are computed anew
# (docs/benchmarks.md). So many passes pay for it:
WORTHWHILE = 4600
MULTIPLE = 8  # of tokens, for the tensor cores
SHORTEST = 64  # below it, a pass takes the same time
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@dataclass(frozen=True)
class Way:
    """How the steps of a training run; by default plainly.

    :param on_gpu: whether they run on a GPU
    :param labelled_only: whether logits are computed for labelled tokens alone
    :param lengths: of sequences, ascending, that the decoder layers are compiled for; empty if they are not
    :param recompute: whether compiled layers keep nothing but their inputs for the backward pass
    """

    on_gpu: bool = False
    labelled_only: bool = False
    lengths: list[int] = field(default_factory=list)
    recompute: bool = False

    @contextlib.contextmanager
    def taken(self, model: PeftModel) -> Iterator[None]:
        """Let a model be trained this way."""
        with contextlib.ExitStack() as stack:
            if self.on_gpu:
                stack.enter_context(repeatable())
                # Autocast casts weights to the inputs' type; PEFT would cast the inputs, which are larger, to and fro.
                stack.enter_context(disable_input_dtype_casting(model))
            if self.lengths:
                base = cast(PreTrainedModel, model.get_base_model())
                base.activation_checkpointing_disable()
                # The first layer is compiled as all others are.
                base.enable_input_require_grads()
                stack.enter_context(compiled(decoder_layers(base), recompute=self.recompute))
            yield


def choose(model: nn.Module, widths: Sequence[int], processes: int, *, compiles: bool, recompute: bool) -> Way:
    """Return how to train a model on a GPU.

    :param widths: tokens of each batch of the run
    :param processes: that share these batches
    :param compiles: whether the layers may be compiled
    :param recompute: whether activations are to be computed twice instead of kept
    """
    return Way(
        on_gpu=True,
        labelled_only=gives_chosen_logits(model),
        lengths=lengths(widths, len(decoder_layers(model)) * (2 if recompute else 1) / processes) if compiles else [],
        recompute=recompute,
    )


def gives_chosen_logits(model: nn.Module) -> bool:
    """Whether a model computes the logits of chosen tokens alone where it is asked to."""
    own = type(model).__module__.startswith("transformers.")
    return own and "logits_to_keep" in inspect.signature(model.forward).parameters


def lengths(widths: Sequence[int], layers: float) -> list[int]:
    """Return the lengths of sequences, ascending, that it pays to compile for; none if it does not.

    They are the longest, its half, its quarter and so on; each with so many batches that compiling for it pays.

    :param widths: tokens of each batch
    :param layers: passes of a layer in each; those that save twice as much count twice
    """
    longest = -(-max(widths) // MULTIPLE) * MULTIPLE
    ladder = [longest]
    while ladder[0] // 2 >= SHORTEST:
        ladder.insert(0, -(-ladder[0] // 2 // MULTIPLE) * MULTIPLE)
    counts = Counter(next(length for length in ladder if length >= width) for width in widths)
    kept: list[int] = []
    waiting = 0
    for length in ladder:
        waiting += counts[length]
        if waiting * layers >= WORTHWHILE:
            kept.append(length)
            waiting = 0
    if kept:
        # A few that are longer take the next shorter ones along.
        kept[-1] = longest
    return kept


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a model that are compiled; none if transformers does not know them."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


@contextlib.contextmanager
def compiled(layers: Sequence[nn.Module], *, recompute: bool) -> Iterator[None]:
    """Compile layers, one graph for all of them and each length of sequences, when they are first called.

    :param recompute: whether backward passes compute what was computed before, but for each layer's input
    """
    from torch._functorch import config as functorch
    from torch._inductor import config as inductor

    for layer in layers:
        layer.compile(dynamic=False)
    # Values are rounded between two operators as they are without the compiler.
    with (
        functorch.patch(activation_memory_budget=0.0 if recompute else 1.0),
        inductor.patch(emulate_precision_casts=True),
    ):
        yield


def settle() -> None:
    """Let cuBLAS be known as repeatable, which it is on one stream, before this process's first product on the GPU.

    PyTorch looks at the variable once, before that product. Where it stays set, each product takes the processor far
    longer to start, it seems since PyTorch parses it again (docs/journal.md).
    """
    before = os.environ.get(WORKSPACE)
    os.environ[WORKSPACE] = ":4096:8"
    ones = torch.ones(MULTIPLE, MULTIPLE, device="cuda")
    torch.mm(ones, ones)
    if before is None:
        del os.environ[WORKSPACE]
    else:
        os.environ[WORKSPACE] = before


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Take only kernels that give the same bytes each time; the compiler chooses none by what it measures, either.

    So what the compiler keeps between runs decides about their time alone.
    """
    # A module whose class has it as a property, which type checkers do not see.
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = before[1]
