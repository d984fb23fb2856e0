"""A few examples of an adapter as the model reads them, as `make look` shows them, and lines that were left out."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast

from press.core import files, paths
from press.data import jsonl
from press.data.examples import Example
from press.model import checkpoints
from press.report.inputs import Inputs
from press.training import looking
from press.training.looking import Piece

# Examples of each split, and lines that were left out.
SHOWN, REJECTS = 3, 10


@dataclass(frozen=True)
class Look:
    """An example."""

    split: str
    tokens: int
    learned: int
    pieces: list[Piece]

    @property
    def marked(self) -> str:
        """The text, with what is learned between brackets."""
        runs = [(learned, "".join(piece.text for piece in run)) for learned, run in groupby(self.pieces, _is_learned)]
        return "".join(f"⟦{text}⟧" if learned else text for learned, text in runs)


def _is_learned(piece: Piece) -> bool:
    return piece.learned


def of(inputs: Inputs, adapter: str) -> list[Look]:
    """Return some of the examples that an adapter was built from; none where they, or the tokenizer, are not here."""
    params, prepared = inputs.params["adapters"][adapter], paths.PREPARED / adapter
    manifest = prepared / paths.ADAPTER_MANIFEST
    if not manifest.is_file() or not (paths.BASE / paths.CONFIG).is_file():
        return []
    if files.read_json(manifest)["data_sha256"] != inputs.manifest["inputs"]["data_sha256"].get(params["data"]):
        return []
    tokenizer = checkpoints.tokenizer(paths.BASE, inputs.params["base"]["trust_remote_code"])
    looks = []
    for split, name in (("to train", paths.TRAIN), ("held out", paths.HELDOUT)):
        rows = jsonl.Rows(prepared / name)
        for index in range(min(SHOWN, len(rows))):
            for which, side in looking.sides(cast(Example, rows[index])):
                learned = looking.flags(side, params["training"]["response_only"])
                pieces = list(looking.pieces(tokenizer, side, learned))
                looks.append(Look(f"{split}{which}", len(learned), sum(learned), pieces))
    return looks


def rejects(adapter: str) -> list[dict]:
    """Return the first lines that `prepare` left out, each with its number, the reason, and the file of a folder."""
    path: Path = paths.PREPARATIONS / adapter / "rejects.json"
    return files.read_json(path)[:REJECTS] if path.is_file() else []
