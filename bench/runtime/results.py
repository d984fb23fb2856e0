"""What the rounds come to: medians, ratios to a contestant of the same round, targets; as JSON and as Markdown."""

import statistics
from dataclasses import asdict, dataclass
from math import sqrt

from bench.runtime.contestants import ADAPTER, BARE, LLAMA, READY
from press.quality import scoring

DECODE_RATIO = 1.5
READY_RATIO = 0.97
ADAPTER_SECONDS = 1e-3
# What a ratio is against: llama.cpp, but the bare graph for what LoRA inputs cost.
COLUMNS = ("prompt_tokens_per_s", "decode_tokens_per_s")

# The times of one contestant behind one length of prompt, a round each.
Times = dict[str, dict[int, list[dict[str, float]]]]


@dataclass(frozen=True)
class Target:
    """A figure and its limit; `kind` says whether it must be `at least` or `at most` that."""

    name: str
    value: float
    kind: str
    limit: float

    @property
    def met(self) -> bool:
        """Whether the figure keeps its limit."""
        return self.value >= self.limit if self.kind == "at least" else self.value <= self.limit

    def json(self) -> dict:
        """Return the fields and whether it is met."""
        return asdict(self) | {"met": self.met}


def medians_of(records: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each key's values."""
    keys = records[0] if records else ()
    return {key: statistics.median(record[key] for record in records) for key in keys}


def speeds(times: list[dict[str, float]], length: int, tokens: int) -> dict[str, float]:
    """Return time to first token and the speeds, as medians over the rounds."""
    return {
        "ttft_s": statistics.median(one["ttft_s"] for one in times),
        "prompt_tokens_per_s": length / statistics.median(one["prompt_s"] for one in times),
        "decode_tokens_per_s": tokens / statistics.median(one["decode_s"] for one in times),
    }


def speed_ratio(times: Times, name: str, baseline: str, length: int, key: str = "decode_s") -> float:
    """Return how many times as fast as the baseline a contestant is: the median of the rounds' ratios."""
    pairs = zip(times[name][length], times[baseline][length], strict=False)
    return statistics.median(other[key] / own[key] for own, other in pairs)


def perplexity(losses: list[float]) -> float:
    """Return the perplexity of rows of the same length, of which there are losses a token."""
    return scoring.perplexity(statistics.fmean(losses))


def indistinguishable(losses: list[float], baseline: list[float]) -> float:
    """Return up to which perplexity the rows do not tell a model from the baseline.

    That is two standard errors of the mean difference of the same rows' losses above the baseline's.
    """
    differences = [own - other for own, other in zip(losses, baseline, strict=True)]
    error = statistics.stdev(differences) / sqrt(len(differences)) if len(differences) > 1 else 0.0
    return scoring.perplexity(statistics.fmean(baseline) + 2 * error)


def bandwidth(figures: dict, read: dict[str, dict[int, int]], limit: float) -> dict:
    """Return the bytes that a token reads, and which share of the limit decoding reaches, by contestant and length.

    :param figures: medians by contestant and length
    :param read: bytes that a token reads, by contestant and length of prompt
    :param limit: bytes a second that the machine's memory gives
    """
    return {
        name: {
            str(length): {
                "bytes_per_token": count,
                "fraction": count * figures[name][str(length)]["decode_tokens_per_s"] / limit,
            }
            for length, count in lengths.items()
        }
        for name, lengths in read.items()
    }


def targets(
    times: Times, token_bytes: dict[str, dict[int, int]], losses: dict[str, list[float]], adapter: dict
) -> list[Target]:
    """Return the targets of which there are figures.

    :param token_bytes: bytes that a token reads, by contestant and length of prompt
    :param losses: of the same rows of text, by contestant
    :param adapter: {"load_s": seconds, "switch_s": seconds}, or nothing
    """
    goals = []
    for length in times.get(READY, {}):
        behind = f"decoding behind {length} tokens"
        if LLAMA in times:
            ratio = speed_ratio(times, READY, LLAMA, length)
            goals.append(Target(f"{behind}: package to llama.cpp", ratio, "at least", DECODE_RATIO))
        ratio = speed_ratio(times, READY, BARE, length)
        goals.append(Target(f"{behind}: LoRA inputs, no adapter, to bare graph", ratio, "at least", READY_RATIO))
        if ADAPTER in times:
            ratio = speed_ratio(times, ADAPTER, BARE, length)
            explained = token_bytes[BARE][length] / token_bytes[ADAPTER][length]
            goals.append(Target(f"{behind}: one adapter to bare graph, by bytes", ratio, "at least", explained))
    if LLAMA in losses:
        own, limit = perplexity(losses[READY]), indistinguishable(losses[READY], losses[LLAMA])
        goals.append(Target("perplexity of the package, to llama.cpp's and two standard errors", own, "at most", limit))
    for key, value in adapter.items():
        goals.append(Target(f"adapter: {key.removesuffix('_s')}, seconds", value, "at most", ADAPTER_SECONDS))
    return goals


def markdown(results: dict, times: Times) -> str:
    """Return the tables: speeds by length of prompt, memory and quality, bandwidth, targets."""
    parts = [_speeds(results, times, length) for length in next(iter(times.values()))]
    return "\n\n".join([*parts, _processes(results), _bandwidth(results), _targets(results["targets"])])


def _speeds(results: dict, times: Times, length: int) -> str:
    rows = []
    for name in times:
        figures = results["contestants"][name][str(length)]
        cells = [f"{1000 * figures['ttft_s']:.1f}", *(f"{figures[column]:.1f}" for column in COLUMNS)]
        for baseline, key in ((LLAMA, "prompt_s"), (LLAMA, "decode_s"), (BARE, "decode_s")):
            known = baseline in times
            cells.append(f"{speed_ratio(times, name, baseline, length, key):.3f}" if known else "–")
        rows.append([name, *cells])
    head = ["first token, ms", "prompt, tokens/s", "decoding, tokens/s", "prompt to llama.cpp", "decoding to llama.cpp"]
    return table([f"{length} tokens of prompt", *head, "decoding to bare graph"], rows)


def _processes(results: dict) -> str:
    rows = []
    for name, contestant in results["contestants"].items():
        peak = f"{contestant['peak_bytes'] / 1e6:.0f}" if "peak_bytes" in contestant else "–"
        rows.append([name, f"{contestant['load_s']:.2f}", peak, f"{contestant['perplexity']:.2f}"])
    return table(["", "load, s", "peak memory, MB", "perplexity"], rows)


def _bandwidth(results: dict) -> str:
    speed = results["bandwidth"]["read_bytes_per_s"]
    rows = [
        [name, length, f"{traffic['bytes_per_token'] / 1e6:.1f}", f"{traffic['fraction']:.0%}"]
        for name, lengths in results["bandwidth"]["contestants"].items()
        for length, traffic in lengths.items()
    ]
    return table([f"of {speed / 1e9:.1f} GB/s", "tokens of prompt", "MB a token", "share of the limit"], rows)


def _targets(goals: list[dict]) -> str:
    rows = [
        [
            target["name"],
            f"{target['value']:.4g}",
            f"{target['kind']} {target['limit']:.4g}",
            "yes" if target["met"] else "**no**",
        ]
        for target in goals
    ]
    return table(["target", "measured", "limit", "met"], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
