"""What it costs to hold answers to a response schema.

    python -m bench.guidance                              on packages/cpu, after `make repro`
    python -m bench.guidance --package FOLDER --adapter NAME

Answers one prompt free and held to schemas, in turns in one process on one thread, and prints a Markdown table: the
processor time to the first token, compiling the schema included, and that of each token after it, beside the free
answer's. What else the machine does takes wall time, but hardly any of this. The small schema is the adapter's own, or
one of two properties; the others have 200 and 1000. A first answer of each model also takes the time in which
llguidance reads the vocabulary, which is printed apart.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import onnxruntime_genai as og

from app import Chat, UserError

QUESTION = "Five days of hiking in the Alps in September, sleeping in mountain huts."
FREE, SMALL = "free", "small"


def schema(properties: int) -> dict:
    """Return a schema of an object that must have so many properties."""
    names = [f"property {index}" for index in range(properties)]
    return {
        "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
        "type": "object",
        "properties": {name: {"type": "string", "maxLength": 40} for name in names},
        "required": names,
        "additionalProperties": False,
    }


def load(package: Path, adapter: str) -> Chat:
    """Return a package on one thread: others would spin while they wait, for as long as the machine lets them."""
    chat = Chat(package, free=True)
    config = og.Config(str(package))
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": 1}}}}))
    chat.model = og.Model(config)
    chat.adapters = og.Adapters(chat.model)
    chat.switch(adapter)
    return chat


def answer(chat: Chat, held_to: dict | None, tokens: int) -> tuple[float, float]:
    """Return the seconds of processor time to an answer's first token, and those of each token after it."""
    ids = chat.prompt(QUESTION)
    started = time.process_time()
    params = og.GeneratorParams(chat.model)
    params.set_search_options(max_length=len(ids) + tokens, do_sample=False)
    if held_to is not None:
        params.set_guidance("json_schema", json.dumps(held_to))
    generator = og.Generator(chat.model, params)
    generator.set_active_adapter(chat.adapters, chat.adapter)
    generator.append_tokens(ids)
    generator.generate_next_token()
    first, count = time.process_time(), 0
    while not generator.is_done():
        generator.generate_next_token()
        count += 1
    return first - started, (time.process_time() - first) / max(count, 1)


def main(words: Sequence[str] | None = None) -> None:
    """Measure a package and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, default=Path("packages/cpu"), help="folder (default: packages/cpu)")
    parser.add_argument("--adapter", default="packing", help="an adapter that is a file of its own (default: packing)")
    parser.add_argument("--rounds", type=int, default=5, help="answers of each (default: 5)")
    parser.add_argument("--tokens", type=int, default=80, help="tokens an answer may have (default: 80)")
    chosen = parser.parse_args(words)
    try:
        chat = load(chosen.package, chosen.adapter)
    except UserError as error:
        sys.exit(f"error: {error}")
    own = chat.manifests[chosen.adapter]["response_schema"] or schema(2)
    schemas = {FREE: None, SMALL: own, "200 properties": schema(200), "1000 properties": schema(1000)}
    reading = answer(chat, own, 2)[0] - answer(chat, own, 2)[0]
    figures = {name: [] for name in schemas}
    for _ in range(chosen.rounds):
        for name, held_to in schemas.items():
            figures[name].append(answer(chat, held_to, chosen.tokens))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()
    }
    print(f"reading the vocabulary, once: {reading:.2f} s")
    print("processor time on one thread:")
    print("| answers | first token, s | of the free one's | a token, ms | of the free one's |\n|---|---|---|---|---|")
    for name, (first, token) in medians.items():
        ratios = first / medians[FREE][0], token / medians[FREE][1]
        print(f"| {name} | {first:.3f} | {ratios[0]:.2f} | {1000 * token:.1f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
