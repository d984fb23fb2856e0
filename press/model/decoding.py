"""How answers are given: an adapter's settings, the base model's own where they say nothing, and what they mean."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from press.core import files, nested, paths
from press.core.errors import UserError
from press.model import packaged
from press.params.schema import Adapter


def settings(own: Mapping[str, Any], base: Path, block: str) -> dict[str, Any]:
    """Return an adapter's settings of generation, with those of the base model's generation config for each null.

    A base model that does not sample of itself is greedy.

    :param own: as params.yaml has them
    :param base: folder of the base model
    :param block: what params.yaml calls them, for the sentence
    :raises UserError: if the base model's own settings are none
    """
    path = base / paths.GENERATION_CONFIG
    theirs = files.read_json(path) if path.exists() else {}
    if theirs.get("do_sample") is not True:
        theirs["temperature"] = 0.0
    elif theirs.get("temperature") is None:
        theirs["temperature"] = 1.0
    chosen = {name: theirs.get(name) if value is None else value for name, value in own.items()}
    try:
        return packaged.generation({name: value for name, value in chosen.items() if value is not None})
    except ValueError as error:
        raise UserError(f"{path}: {error}; give {block} a value of its own") from error


def measured(adapters: Mapping[str, Adapter], base: Path) -> dict[str, str]:
    """Say of each adapter by which settings an evaluation lets answer.

    :param base: folder of the base model
    """
    blocks = {name: nested.in_order(adapter.generation.model_dump()) for name, adapter in adapters.items()}
    return {name: words(settings(own, base, f"adapters.{name}.generation")) for name, own in blocks.items()}


def words(given: Mapping[str, Any]) -> str:
    """Say by which settings an evaluation lets answer, which is greedy whatever the temperature is."""
    stops = "".join(f", up to {stop!r}" for stop in given["stop"])
    penalty = float(given["repetition_penalty"])
    return f"greedy, repetition_penalty {penalty}, at most {given['max_new_tokens']} tokens{stops}"


def cut(answer: str, stops: Sequence[str]) -> str:
    """Return an answer up to the first of its stop texts, without it."""
    places = [place for stop in stops if (place := answer.find(stop)) >= 0]
    return answer[: min(places)] if places else answer
