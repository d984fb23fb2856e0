"""The model card of a package, in the form that model hubs read."""

from pathlib import Path

from press.core import nested
from press.model import decoding
from press.package import front_matter, markup, origin
from press.params import gates, schema, settings
from press.params.mixed_precision import HIGH_BITS
from press.params.objectives import SFT
from press.params.providers import MERGED
from press.quality import vocabulary
from press.quality.vocabulary import FIELDS, FIGURES, GENERAL, JUDGED, PAIRED, SHARES, STEPS

TEMPLATE = "card.md.j2"
ENGINES = {"onnx": "ONNX", "pytorch": "PyTorch"}
METHODS = {"lora": "LoRA", "rslora": "rsLoRA", "dora": "DoRA", "qlora": "QLoRA"}


def render(target: str, params: settings.Settings, metrics: dict, results: list[gates.Result], base: Path) -> str:
    """Return the card as Markdown with YAML front matter.

    :param metrics: of the package, its size among them
    :param results: what became of the quality gates
    :param base: the folder of the base model
    """
    environment = markup.environment("press.package", autoescape=False)
    environment.filters["percent"] = lambda share: markup.MISSING if share is None else f"{share:.1%}"
    spec = params.target(target)
    return environment.get_template(TEMPLATE).render(
        front_matter=front_matter.build(params, metrics, base).to_yaml(),
        package=params.package,
        target=target,
        spec=spec,
        merged=spec.adapters == MERGED,
        adapters=params.adapters,
        answers=decoding.measured(params.adapters, base),
        first=next(iter(params.adapters)),
        source=origin.source(params.base),
        licences=origin.licences(base),
        quantize=params.quantize,
        mixed=_is_mixed(params.quantize),
        others=_passes(params.passes),
        HIGH_BITS=HIGH_BITS,
        precisions=_precisions(params.quantize, spec),
        metrics=metrics,
        texts=[*params.adapters, GENERAL],
        ladder=vocabulary.ladder,
        sizes=vocabulary.sizes,
        forgotten=_forgotten,
        flat=nested.flat,
        ENGINES=ENGINES,
        FIELDS=FIELDS,
        FIGURES=FIGURES,
        JUDGED=JUDGED,
        PAIRED=PAIRED,
        STEPS=STEPS,
        SFT=SFT,
        SHARES=SHARES,
        results=results,
        METHODS=METHODS,
    )


def _is_mixed(quantize: schema.Quantize) -> bool:
    return quantize.mixed_precision.method != "none"


def _passes(passes: schema.Passes) -> list[str]:
    """Say in words which passes of Olive's own have run, and where."""
    return [
        f"{', '.join(each.type for each in given)} {place.replace('_', ' ')}"
        for place in ("before_quantize", "after_quantize", "after_capture")
        if (given := getattr(passes, place))
    ]


def _precisions(quantize: schema.Quantize, spec: schema.Target) -> dict[str, str]:
    """Return the precision of those steps that round weights."""
    higher = f" and int{HIGH_BITS}" if _is_mixed(quantize) else ""
    head = "floats" if spec.precision == "float" else spec.precision
    return {"weights": f"int{quantize.bits}{higher}", "lm_head": head}


def _forgotten(metrics: dict, name: str) -> tuple[dict, dict]:
    """Return the scores on the general text with an adapter and without, of ONNX where it was evaluated."""
    if "onnx" in metrics[name]:
        return metrics[name][GENERAL]["onnx"]["adapter"], metrics[GENERAL]["onnx"]["bare"]
    return metrics[name][GENERAL]["pytorch"]["adapter"], metrics[GENERAL]["pytorch"]["quantized"]
