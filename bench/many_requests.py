"""What a server holds in memory after so many requests of all kinds: whether it grows.

    python -m bench.many_requests [PACKAGE] [--requests 10000]           (packages/cpu)

Four clients ask whatever there is: each model, streams and whole answers, schemas, a conversation that goes on, answers
whose client goes away, and requests that are refused. What the server holds is told after each tenth of them. The first
tenth fills what is kept between answers.
"""

import argparse
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from bench.serving import memory, served

TENTHS, CLIENTS = 10, 4
TOKENS = 3
# Of what a server held after the first tenth, the part that it may hold more in the end.
GROWTH = 0.1
SCHEMA = {"type": "object", "properties": {"days": {"enum": [3, 4]}}, "required": ["days"]}


def body(number: int, models: list[str]) -> dict:
    """Return the request of a number, each of another kind than the one before it."""
    turns = [{"role": "user", "content": f"question {number % 97}"}]
    # A new schema each time: what is known of them is bounded.
    named = {"name": "x", "schema": {**SCHEMA, "title": str(number)}}
    kinds: list[dict[str, Any]] = [
        {},
        {"stream": True},
        {"response_format": {"type": "json_schema", "json_schema": named}},
        {"model": "base", "messages": [*turns, {"role": "assistant", "content": "yes"}, *turns]},
        {"temperature": 5},
        {"temperature": 1, "seed": number},
        {"logprobs": True},
    ]
    asked = {"model": models[number % len(models)], "messages": turns, "max_tokens": TOKENS}
    return asked | kinds[number % len(kinds)]


def ask(client: httpx2.Client, number: int, models: list[str]) -> None:
    """Ask once; of some streams, only the beginning is read.

    :raises RuntimeError: if the server fails
    """
    asked = body(number, models)
    with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
        if answer.status_code not in (200, 400):
            raise RuntimeError(f"request {number} was answered with {answer.status_code}")
        if asked.get("stream") and number % 2:
            next(answer.iter_lines(), None)
        else:
            answer.read()


def main() -> None:
    """Print a table, and exit with 1 if the server grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, nargs="?", default=Path("packages/cpu"))
    parser.add_argument("--requests", type=int, default=10_000)
    words = parser.parse_args()
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    part, held, clients = words.requests // TENTHS, [], threading.local()
    with served(words.package, CLIENTS, CLIENTS) as (url, process), ThreadPoolExecutor(CLIENTS) as pool:
        models = [each["id"] for each in httpx2.get(f"{url}/v1/models").json()["data"]]

        def one(number: int) -> None:
            if not hasattr(clients, "own"):
                clients.own = httpx2.Client(base_url=url, timeout=600)
            ask(clients.own, number, models)

        print("| requests | memory, MiB |\n|---|---|")
        for tenth in range(TENTHS):
            list(pool.map(one, range(tenth * part, (tenth + 1) * part)))
            held.append(memory(process))
            print(f"| {(tenth + 1) * part} | {held[-1]} |", flush=True)
    if held[-1] > held[0] * (1 + GROWTH):
        sys.exit(f"error: it held {held[0]} MiB after {part} requests, and {held[-1]} MiB after all of them")


if __name__ == "__main__":
    main()
