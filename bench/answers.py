"""What an adapter's answers are worth on trips that nothing was trained, tuned or judged on before.

    python -m bench.answers                                on packages/cpu, after `make repro`
    python -m bench.answers --adapter NAME --data FILE     of another adapter, with lines as its data set has them

Answers every line of the file as the package says (penalty, stop texts, length), greedily, and once more held to the
response schema; prints the shares that are valid by the strict reader, loop, ended, and have an item twice in a list,
the share of right values of each field, and the answers that are not valid.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from press.core import cli, paths
from press.data import answers, jsonl, strict_json, templates
from press.model import packaged
from press.model.runtime import Runtime
from press.quality import scorecard

DATA = Path("data/packing-unseen.jsonl")


def shares(given: Sequence[tuple[str, bool]], right: Sequence[str], schema: dict) -> dict[str, float]:
    """Return the share of answers that have each property, and of right values of each field.

    :param given: answers, and whether each ended by itself
    :param right: the answers of the data
    """
    flags: dict[str, list[bool]] = {}
    for (text, ended), reference in zip(given, right, strict=True):
        properties = {
            "valid": answers.complaint(text, schema) is None,
            "ended": ended,
            "looping": answers.loops(text),
            "an item twice in a list": repeats(text),
            **{f"right {field}": flag for field, flag in scorecard.fields(text, reference, schema).items()},
        }
        for name, flag in properties.items():
            flags.setdefault(name, []).append(flag)
    return {name: sum(of) / len(of) for name, of in flags.items()}


def repeats(text: str) -> bool:
    """Return whether a JSON text has an item twice in one list, which a schema's grammar cannot rule out."""
    try:
        value = strict_json.parse(text)
    except ValueError:
        return False
    return any(
        strict_json.same(item, other) for items in _lists(value) for i, item in enumerate(items) for other in items[:i]
    )


def _lists(value: object) -> Iterator[list]:
    if isinstance(value, list):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from _lists(child)


def main(words: Sequence[str] | None = None) -> None:
    """Answer a file's prompts by a package, and print what that is worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, default=Path("packages/cpu"), help="folder (default: packages/cpu)")
    parser.add_argument("--adapter", default="packing", help="an adapter with a response schema (default: packing)")
    parser.add_argument("--data", type=Path, default=DATA, help=f"lines of prompt and response (default: {DATA})")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args(words)
    folder = chosen.package / "adapters" / chosen.adapter
    about = packaged.read_object(folder / paths.ADAPTER_MANIFEST)
    runtime = Runtime(chosen.package, {chosen.adapter: folder / paths.ADAPTER_FILE}, chosen.threads)
    lines = [jsonl.parse(line) for _, line in jsonl.lines(chosen.data)]
    prompts = [templates.render(about["template"], line)[0] for line in lines]
    settings = packaged.generation(about["generation"])
    for free in (True, False):
        given = runtime.answers(prompts, chosen.adapter, settings, free=free)
        print(f"{len(given)} answers, {'free' if free else 'held to the schema'}:")
        for name, share in shares(given, [line["response"] for line in lines], about["response_schema"]).items():
            print(f"  {share:6.1%}  {name}")
        for text, _ in given:
            if wrong := answers.complaint(text, about["response_schema"]):
                print(f"  {wrong}: {text}")


if __name__ == "__main__":
    cli.in_sentences(main)
