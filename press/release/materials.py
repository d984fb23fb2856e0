"""What a release is made of: the facts that its bills of materials tell, whatever their form."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from press.core import files, packages, paths
from press.package import origin
from press.params import schema
from press.quality import vocabulary
from press.quality.vocabulary import GENERAL
from press.release import licences, provenance
from press.release.package import Package
from press.release.settings import Licences

HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# Parameters that shape the weights; the rest of them is in the provenance.
SHAPING = ("seed", "arithmetic", "device", "quantize", "passes", "lora", "training")
TASK, APPROACH = "text-generation", "supervised"


@dataclass(frozen=True)
class Material:
    """A base model, a data set or a library.

    :param owner: who gives it to others; empty if nobody says
    """

    name: str
    uri: str
    version: str
    digests: list[str]
    licence: str | None
    owner: str = ""
    description: str = ""


@dataclass(frozen=True)
class Figure:
    """Something that was measured.

    :param of: the ladder's text or the task, and the engine and adapter
    """

    of: str
    name: str
    value: float


@dataclass(frozen=True)
class Adapter:
    """What is known of an adapter alone.

    :param data: the name of the data set that it was trained on
    :param files: their SHA-256
    :param limitation: empty if it was not measured
    """

    name: str
    data: str
    use: str
    parameters: dict[str, object]
    files: dict[str, str]
    limitation: str


@dataclass(frozen=True)
class Materials:
    """What a release is made of, and what was measured of it.

    :param parameters: that shape the weights
    :param calibration: the name of the data set that quantization was calibrated with
    """

    name: str
    digest: str
    description: str
    parameters: dict[str, object]
    base: Material
    data: list[Material]
    calibration: str
    adapters: list[Adapter]
    libraries: list[Material]
    figures: list[Figure]
    limitations: list[str]
    costs: list[str]

    @property
    def uses(self) -> list[str]:
        return [self.description, *(adapter.use for adapter in self.adapters)]


def collect(release: Package, allowed: Licences) -> Materials:
    """Collect what a release is made of.

    :param release: a package with what was measured of it beside it
    """
    inputs, metrics = release.manifest["inputs"], files.read_json(release.folder / paths.METRICS)
    params = inputs["params"]
    adapters = [_adapter(name, params, release, metrics) for name in params["adapters"]]
    measured = [adapter.name for adapter in adapters if adapter.name in metrics]
    return Materials(
        name=release.manifest.get("name", "package"),
        digest=release.digest,
        description=params["package"]["description"],
        parameters=dict(_flat(_shaping(params))),
        base=_base(inputs),
        data=[*_data(inputs, allowed)],
        calibration=params["quantize"]["calibration"]["data"],
        adapters=adapters,
        libraries=[*_libraries()],
        figures=[*_figures(metrics, measured)],
        limitations=[
            "The figures hold for the class of machine that gates.json names.",
            *(adapter.limitation for adapter in adapters if adapter.limitation),
        ],
        costs=[
            f"{text}: {vocabulary.STEPS[step].label} {cost:+.4f} nats a token"
            for text in (*measured, GENERAL)
            for step, cost in metrics[text].get("attribution", {}).items()
        ],
    )


def _base(inputs: dict) -> Material:
    base, uri = schema.Base.model_validate(inputs["params"]["base"]), provenance.base_uri(inputs["params"]["base"])
    owner = {"hub": base.hub.id, "package": base.package.model or ""}.get(base.source, "").partition("/")[0]
    version = uri.rpartition("@")[2] if uri.startswith("pkg:") else inputs["base_model_sha256"][:12]
    digests, licence = [inputs["base_model_sha256"]], licences.of_base(inputs)
    return Material(uri, uri, version, digests, licence, owner, origin.source(base))


def _data(inputs: dict, allowed: Licences) -> Iterator[Material]:
    for path, digest in sorted(inputs["data_sha256"].items()):
        uri = provenance.data_uri(path, inputs["params"])
        source = provenance.data_source(path, inputs["params"])
        owner = source["id"].partition("/")[0] if source else ""
        yield Material(path, uri, digest[:12], [digest], licences.of_data(path, allowed), owner)


def _libraries() -> Iterator[Material]:
    """Yield each package that is locked for this platform, with the hashes that the lock allows."""
    hashes = _locked_hashes(packages.LOCK)
    for name, version in sorted(packages.read().items()):
        yield Material(name, f"pkg:pypi/{name}@{version}", version, hashes.get(name, []), _declared(name))


def _locked_hashes(path: Path) -> dict[str, list[str]]:
    blocks = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return {packages.normalize(re.split(r"[=\s\[]", line)[0]): HASH.findall(line) for line in blocks if "==" in line}


def _declared(name: str) -> str | None:
    """Return the licence that an installed package declares: its SPDX expression, or else its own words."""
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    classifiers = [line.split(" :: ") for line in about.get_all("Classifier", [])]
    classified = ", ".join(words[-1] for words in classifiers if words[0] == "License")
    declared = [*about.get_all("License-Expression", []), *about.get_all("License", []), classified]
    # Some put the whole text of the licence there.
    return next((words for words in declared if words and "\n" not in words), None)


def _shaping(params: dict) -> dict:
    adapters = {name: _chosen(adapter) for name, adapter in params["adapters"].items()}
    return {**_chosen(params), "adapters": adapters}


def _chosen(params: dict) -> dict:
    return {key: params[key] for key in SHAPING if key in params}


def _flat(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _figures(metrics: dict, adapters: list[str]) -> Iterator[Figure]:
    """Yield each figure of the ladder and of the tasks."""
    for text in (*adapters, GENERAL):
        for _, label, score in vocabulary.ladder(metrics, text, adapters):
            for figure in (*vocabulary.FIGURES, *vocabulary.PAIRED):
                if score.get(figure) is not None:
                    yield Figure(f"{text}: {label}", figure, score[figure])
    for task, scores in metrics.get("tasks", {}).items():
        for metric, values in scores.items():
            for who, value in values.items():
                yield Figure(f"{task}: {who}", metric, value)


def _adapter(name: str, params: dict, release: Package, metrics: dict) -> Adapter:
    adapter = params["adapters"][name]
    return Adapter(
        name=name,
        data=adapter["data"],
        use=f"{name}: trained on {adapter['data']}, on examples of at most {adapter['max_seq_len']} tokens",
        parameters=dict(_flat(_chosen(adapter))),
        files={file: digest for file, digest in release.digests.items() if file.startswith(f"adapters/{name}/")},
        limitation=_forgetting(name, metrics) if GENERAL in metrics.get(name, {}) else "",
    )


def _forgetting(name: str, metrics: dict) -> str:
    """Say what an adapter's training cost on the general text, as the card does."""
    engine, without = ("onnx", "bare") if "onnx" in metrics[name] else ("pytorch", "quantized")
    change = metrics[name][GENERAL][engine]["adapter"]["loss"] - metrics[GENERAL][engine][without]["loss"]
    return f"{name}: on the general text, the loss changes by {change:+.3f} nats a token; above 0, it forgot"
