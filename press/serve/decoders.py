"""How a model's answers are computed: as rows of one batch where its graph allows it, otherwise each by itself.

A decoder makes generators, which are asked what onnxruntime-genai's are asked. Of rows, that runtime samples, and holds
them to their schemas: by a model without weights, whose logits are a row's.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime_genai as og
from onnx import TensorProto, helper

from press.core.errors import UserError
from press.model import packaged
from press.serve import row_graph, stacks
from press.serve.apart import line
from press.serve.batch import Batch, Row
from press.serve.stacks import Weights

logger = logging.getLogger(__name__)

# The runtime takes seeds of 31 bits.
SEEDS = 2**31
# What an adapter is called among the runtime's, which are of one each.
ONLY = "adapter"
WEIGHTLESS, TOKENS, LOGITS = "weightless.onnx", "i", "o"
# Where the session finds the weights of a graph that is given as bytes.
FOLDER = "session.model_external_initializers_file_folder_path"
STOP_SPINNING = "session.force_spinning_stop"


@dataclass(frozen=True)
class Asked:
    """How an answer is to be written."""

    settings: Mapping[str, Any]
    schema: str | None = None
    seed: int | None = None


class Generator(Protocol):
    """What reads a prompt, and writes an answer token by token."""

    def append_tokens(self, tokens: Sequence[int]) -> None:
        """Read a part of the prompt."""

    def rewind_to(self, length: int) -> None:
        """Go back to the first tokens that were read."""

    def is_done(self) -> bool:
        """Whether there is nothing more to write."""

    def get_logits(self) -> np.ndarray:
        """Return the logits of the next token."""

    def generate_next_token(self) -> None:
        """Choose the next token."""

    def get_next_tokens(self) -> Sequence[int]:
        """Return the token that was chosen."""


class Decoder(Protocol):
    """What answers of one model are computed by."""

    tokenizer: og.Tokenizer

    def load(self, path: Path) -> Any:
        """Load an adapter's file.

        :raises RuntimeError: if the model does not take it
        """

    def generator(self, adapter: Any, room: int, asked: Asked) -> Generator:
        """Return a new generator.

        :param adapter: that was loaded, None for the bare model
        :param room: tokens of a prompt and its answer
        """

    def has_to_run(self, generator: Generator) -> bool:
        """Whether the model has to run before a generator can write its next token."""

    def leave(self, generator: Generator) -> None:
        """Go on without a generator that writes nothing more until it has read again."""


def load(folder: Path, config: Mapping[str, Any], threads: int | None) -> Decoder:
    """Load a model.

    :param config: its genai_config.json
    :param threads: of a product of matrices, None for what the runtime chooses
    :raises UserError: if it cannot be loaded
    """
    try:
        why = row_graph.unfit(config, folder)
        if why is None:
            return Rows(folder, config, threads)
        logger.info("the answers of %s take turns, and are no rows of one batch: %s", folder, why)
        return Turns(folder, threads)
    except Exception as error:
        # The libraries have no type of their own for what cannot be loaded, or one for each reason.
        raise UserError(f"the model in {folder} cannot be loaded ({line(error)}): {packaged.AGAIN}") from error


class Turns:
    """A model whose answers have a generator of the runtime's each."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        config = og.Config(str(folder))
        if threads:
            options = {"intra_op_num_threads": threads}
            config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = og.Model(config)
        self.tokenizer = og.Tokenizer(self._model)

    def load(self, path: Path) -> og.Adapters:
        """Load an adapter's file."""
        loaded = og.Adapters(self._model)
        loaded.load(str(path), ONLY)
        return loaded

    def generator(self, adapter: og.Adapters | None, room: int, asked: Asked) -> Generator:
        """Return a new generator."""
        generator = og.Generator(self._model, _params(self._model, room, asked))
        if adapter:
            generator.set_active_adapter(adapter, ONLY)
        return generator

    def has_to_run(self, generator: Generator) -> bool:
        """Whether the model has to run, which it may have to for each token."""
        return True

    def leave(self, generator: Generator) -> None:
        """Go on without a generator; none knows of the others."""


class Rows:
    """A model whose answers are rows of one batch."""

    def __init__(self, folder: Path, config: Mapping[str, Any], threads: int | None) -> None:
        names = row_graph.names(config)
        decoder = config["model"]["decoder"]
        proto = onnx.load(folder / decoder["filename"], load_external_data=False)
        self._projections = row_graph.projections(proto.graph)
        row_graph.edit(proto.graph, names)
        session = _session(proto, folder, decoder.get("session_options", {}), threads)
        vocabulary = config["model"]["vocab_size"]
        self._batch = Batch(session, names, self._projections, vocabulary)
        self._sampling = _weightless(folder, vocabulary)
        self.tokenizer = og.Tokenizer(self._sampling)

    def load(self, path: Path) -> Weights:
        """Load an adapter's file."""
        return stacks.read(path, self._projections)

    def generator(self, adapter: Weights | None, room: int, asked: Asked) -> Generator:
        """Return a new generator."""
        return RowGenerator(Row(self._batch, adapter, room), self._sampling, asked)

    def has_to_run(self, generator: Generator) -> bool:
        """Whether the next token takes a step of all rows."""
        assert isinstance(generator, RowGenerator)
        return generator.has_to_run

    def leave(self, generator: Generator) -> None:
        """Go on without a row."""
        assert isinstance(generator, RowGenerator)
        generator.leave()


class RowGenerator:
    """A row, and what chooses its tokens.

    :param sampling: the model without weights
    """

    def __init__(self, row: Row, sampling: og.Model, asked: Asked) -> None:
        self._row = row
        self._sampling = sampling
        self._asked = asked
        self._chooser: og.Generator | None = None
        self._token = 0

    def append_tokens(self, tokens: Sequence[int]) -> None:
        """Read a part of the prompt."""
        self._row.append(tokens)

    def rewind_to(self, length: int) -> None:
        """Go back to the first tokens that were read."""
        self._row.rewind(length)

    @property
    def has_to_run(self) -> bool:
        """Whether the next token takes a step of all rows."""
        return self._row.logits is None

    def is_done(self) -> bool:
        """Whether there is nothing more to write."""
        return self._chooser is not None and self._chooser.is_done()

    def get_logits(self) -> np.ndarray:
        """Return the logits of the next token."""
        return self._row.next_logits()

    def generate_next_token(self) -> None:
        """Choose the next token."""
        logits = self._row.next_logits()
        if self._chooser is None:
            # It has to know what was read, as repetition is penalized.
            self._chooser = og.Generator(self._sampling, _params(self._sampling, self._row.room, self._asked))
            self._chooser.append_tokens(self._row.read)
        else:
            # So that it goes on from the token before.
            self._chooser.get_logits()
        self._chooser.set_logits(logits[None])
        self._chooser.generate_next_token()
        self._token = int(self._chooser.get_next_tokens()[0])
        if self._chooser.is_done():
            self._row.leave()
        else:
            self._row.write(self._token)

    def get_next_tokens(self) -> Sequence[int]:
        """Return the token that was chosen."""
        return [self._token]

    def leave(self) -> None:
        """Write nothing more until a prompt is read again."""
        self._row.leave()
        self._chooser = None


def _params(model: og.Model, room: int, asked: Asked) -> og.GeneratorParams:
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=room, **packaged.search_options(asked.settings))
    if asked.seed is not None:
        params.set_search_options(random_seed=asked.seed % SEEDS)
    if asked.schema is not None:
        params.set_guidance("json_schema", asked.schema)
    return params


def _session(
    proto: onnx.ModelProto, folder: Path, options: Mapping[str, Any], threads: int | None
) -> ort.InferenceSession:
    wanted = ort.SessionOptions()
    wanted.add_session_config_entry(FOLDER, str(folder))
    # Threads that wait for the next product keep a processor busy, which others need between two steps.
    wanted.add_session_config_entry(STOP_SPINNING, "1")
    for name, value in options.items():
        if name.startswith("session."):
            wanted.add_session_config_entry(name, value)
    if threads:
        wanted.intra_op_num_threads = threads
    return ort.InferenceSession(proto.SerializeToString(), wanted, providers=["CPUExecutionProvider"])


def _weightless(folder: Path, vocabulary: int) -> og.Model:
    """Return a model of the same tokens without weights, whose logits are of the last position and all 0."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [1, 1, vocabulary])
    graph = helper.make_graph(
        [helper.make_node("Expand", ["zero", "shape"], [LOGITS])],
        "weightless",
        [helper.make_tensor_value_info(TOKENS, TensorProto.INT64, ["batch_size", "sequence_length"])],
        [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [1, 1, vocabulary])],
        [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]), shape],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    config = og.Config(str(folder))
    config.clear_providers()
    decoder = {
        "filename": WEIGHTLESS,
        "num_hidden_layers": 0,
        "inputs": {"input_ids": TOKENS},
        "outputs": {"logits": LOGITS},
        "session_options": {"intra_op_num_threads": 1},
    }
    config.overlay(json.dumps({"model": {"type": "llama", "decoder": decoder}}))
    config.add_model_data(WEIGHTLESS, proto.SerializeToString())
    return og.Model(config)
