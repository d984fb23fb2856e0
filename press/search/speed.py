"""Measure how fast a package decodes, in a process of its own, and print it as JSON.

    python -m press.search.speed packages/cpu --threads 2

speed.decode is tokens a second without an adapter, speed.adapter with the slowest one; medians of several rounds, in
which the bare model and the adapters take turns. The first round warms up.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from press.model.runtime import Runtime

ROUNDS = 7
TOKENS = 64
PROMPT = "The best things to see in a city are"


class Racer(Runtime):
    """A package that decodes a fixed number of tokens."""

    def decode(self, adapter: str | None, tokens: int) -> float:
        """Return tokens a second after a short prompt, the prompt not counted."""
        ids = self.encode(PROMPT)
        length = len(ids) + 1 + tokens
        generator = self._generator(self._with(adapter), length, adapter, min_length=length)
        generator.append_tokens(ids)
        generator.generate_next_token()
        start = time.perf_counter()
        for _ in range(tokens):
            generator.generate_next_token()
        return tokens / (time.perf_counter() - start)


def measure(package: Path, threads: int, rounds: int = ROUNDS, tokens: int = TOKENS) -> dict[str, float]:
    """Return the speed of a package, in tokens a second."""
    adapters = {path.name: path / "adapter.onnx_adapter" for path in sorted(package.glob("adapters/*"))}
    racer = Racer(package, adapters, threads)
    speeds: dict[str | None, list[float]] = {name: [] for name in (None, *adapters)}
    for _ in range(rounds + 1):
        for name, rates in speeds.items():
            rates.append(racer.decode(name, tokens))
    medians = {name: round(statistics.median(rates[1:]), 2) for name, rates in speeds.items()}
    bare = medians.pop(None)
    return {"decode": bare, "adapter": min(medians.values(), default=bare)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    words = parser.parse_args()
    print(json.dumps(measure(words.package, words.threads)))


if __name__ == "__main__":
    main()
