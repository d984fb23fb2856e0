"""Rows of one batch, each with a text, a length and an adapter of its own.

A row reads its prompt alone, into memory of its own, and takes a seat among the others with the first token that is
written. Then one step of the model gives all that have a seat their next logits. When one goes, the last one takes its
seat. What a row has read stays its own, so that a later answer can go on from there.
"""

import math
import mmap
import sys
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from press.serve.row_graph import Names, Projection
from press.serve.stacks import Stack, Weights, value_of

# Of the room that seats have, the share that is needed at least, or it is given back.
LEAST_SHARE = 1 / 4


class Row:
    """One text.

    :param room: tokens that it may have
    """

    def __init__(self, batch: "Batch", weights: Weights | None, room: int) -> None:
        self._batch = batch
        self.weights = weights
        self.room = room
        self.remembered = batch.memory(1, room)
        # Tokens that were read, and those after them.
        self.read: list[int] = []
        self.length = 0
        self.last = 0
        # Of the next token; None until a step has given them.
        self.logits: np.ndarray | None = None

    def append(self, tokens: Sequence[int]) -> None:
        """Read a part of the prompt."""
        self.logits = self._batch.read(self, tokens)
        self.read += tokens
        self.length = len(self.read)

    def rewind(self, length: int) -> None:
        """Go back to the first tokens that were read."""
        self.read, self.length, self.logits = self.read[:length], length, None

    def write(self, token: int) -> None:
        """Go on with a token."""
        self._batch.join(self)
        self.last, self.logits = token, None
        self.length += 1

    def next_logits(self) -> np.ndarray:
        """Return the logits of the next token, after a step of all rows if there are none."""
        if self.logits is None:
            self._batch.step()
        assert self.logits is not None
        return self.logits

    def leave(self) -> None:
        """Give the seat back."""
        self._batch.leave(self)
        self.logits = None


class Batch:
    """The rows of one model.

    :param session: of the model's graph, edited
    :param vocabulary: how many logits a token has
    """

    def __init__(
        self, session: ort.InferenceSession, names: Names, projections: Sequence[Projection], vocabulary: int
    ) -> None:
        self._session = session
        self._names = names
        self._vocabulary = vocabulary
        inputs = {each.name: each for each in session.get_inputs()}
        past = [inputs[name] for name in names.past]
        self._types = [_type_of(each) for each in past]
        self._kind = _type_of(next(each for each in session.get_outputs() if each.name == names.logits))
        self._positions = names.positions in inputs
        self._rows: list[Row] = []
        # Of the seats; their memory has room for as many rows and tokens.
        self._seats: list[np.ndarray] = []
        self._binding: ort.IOBinding | None = None
        # What steps with that binding write.
        self._logits: np.ndarray = np.empty(0)
        self._stack = Stack(projections)

    def memory(self, rows: int, room: int) -> list[np.ndarray]:
        """Return memory for rows, of which the system gives what is written to, and has it back when it is let go."""
        shape = (rows, self._names.heads, room, self._names.size)
        size = math.prod(shape) * max(kind.itemsize for kind in self._types)
        whole = memoryview(_mapped(len(self._types) * size))
        return [
            np.frombuffer(whole, kind, math.prod(shape), place * size).reshape(shape)
            for place, kind in enumerate(self._types)
        ]

    def read(self, row: Row, tokens: Sequence[int]) -> np.ndarray:
        """Read more of a row's prompt, and return the logits of its next token."""
        binding = self._bound([row], row.remembered)
        # A prompt has logits of as many positions as its graph computes.
        binding.bind_output(self._names.logits)
        self._run(binding, np.array([tokens]), np.array([len(row.read) + len(tokens)]))
        return binding.get_outputs()[-1].numpy()[0, -1].astype(np.float32)

    def join(self, row: Row) -> None:
        """Give a row a seat, unless it has one."""
        if row in self._rows:
            return
        self._fit([*self._rows, row])
        for seats, own in zip(self._seats, row.remembered, strict=True):
            seats[len(self._rows), :, : row.length] = own[0, :, : row.length]
        self._rows.append(row)
        self._binding = None

    def leave(self, row: Row) -> None:
        """Take a row's seat, if it has one, and give it to the last row."""
        if row not in self._rows:
            return
        place, last = self._rows.index(row), self._rows.pop()
        if last is not row:
            self._rows[place] = last
            for seats in self._seats:
                seats[place, :, : last.length] = seats[len(self._rows), :, : last.length]
        self._binding = None
        if not self._rows:
            self._seats = []
            self._stack.clear()

    def step(self) -> None:
        """Give each row that has a seat the logits of its next token."""
        if self._binding is None:
            self._binding = self._bound(self._rows, self._seats)
            self._logits = np.empty((len(self._rows), 1, self._vocabulary), self._kind)
            self._binding.bind_ortvalue_output(self._names.logits, value_of(self._logits))
        # One whose logits are there already has them computed once more, from the same token.
        last = np.array([[row.last] for row in self._rows])
        self._run(self._binding, last, np.array([row.length for row in self._rows]))
        for row, own in zip(self._rows, self._logits, strict=True):
            row.logits = own[0].astype(np.float32, copy=False)

    def _fit(self, rows: Sequence[Row]) -> None:
        """Have memory for rows, powers of two of them and of tokens."""
        count, room = (1 << (most - 1).bit_length() for most in (len(rows), max(row.room for row in rows)))
        has_count, has_room = self._seats[0].shape[::2] if self._seats else (0, 0)
        if count <= has_count and LEAST_SHARE * has_room < room <= has_room:
            return
        seats = self.memory(max(count, has_count), room)
        for new, old in zip(seats, self._seats, strict=False):
            for place, row in enumerate(self._rows):
                new[place, :, : row.length] = old[place, :, : row.length]
        self._seats, self._binding = seats, None

    def _bound(self, rows: Sequence[Row], remembered: Sequence[np.ndarray]) -> ort.IOBinding:
        """Return a binding for steps of these rows, whose keys and values are written beside earlier ones."""
        binding = self._session.io_binding()
        for name, value in self._stack.inputs([row.weights for row in rows]).items():
            binding.bind_ortvalue_input(name, value)
        for past, present, memory in zip(self._names.past, self._names.present, remembered, strict=True):
            value = value_of(memory[: len(rows)])
            binding.bind_ortvalue_input(past, value)
            binding.bind_ortvalue_output(present, value)
        return binding

    def _run(self, binding: ort.IOBinding, tokens: np.ndarray, lengths: np.ndarray) -> None:
        """Compute the logits of each row's next token.

        :param tokens: the rows' newest ones, so many of each
        :param lengths: of the rows, with them
        """
        places = np.arange(lengths.max())
        inputs = {self._names.tokens: tokens, self._names.mask: places < lengths[:, None]}
        if self._positions:
            inputs[self._names.positions] = lengths[:, None] - tokens.shape[1] + np.arange(tokens.shape[1])
        # Held until it has run.
        values = {name: value_of(value.astype(np.int64)) for name, value in inputs.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        self._session.run_with_iobinding(binding)


def _type_of(value: ort.NodeArg) -> np.dtype:
    return np.dtype(np.float16 if value.type == "tensor(float16)" else np.float32)


def _mapped(size: int) -> mmap.mmap:
    """Return memory that is not the library's, which fills what it has had with zeros, and may keep what is let go."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    # A long room beside short texts may be larger than the machine: what is not written to takes none.
    return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0))
