"""Gather all that an application needs for one target in one folder.

in:  all of params.yaml but other targets, prepared, calibration and general text, reports/environment, reports/machine,
     models/base, models/captured/TARGET, models/converted/TARGET, reports/evaluate/TARGET
out: packages/TARGET, with manifest.json: the SHA-256 of every file and of every input, and what became of the gates
"""

import shutil
from dataclasses import asdict
from pathlib import Path

from press.core import cli, files, machine
from press.package import card
from press.params import gates, settings
from press.quality import ladder

BASE = Path("models/base")
CAPTURED = Path("models/captured")
CONVERTED = Path("models/converted")
REPORTS = Path("reports/evaluate")
PREPARED = Path("prepared")
ENVIRONMENT = Path("reports/environment")
OUTPUT = Path("packages")
MANIFEST = "manifest.json"
LICENCES = ("LICEN[CS]E*", "NOTICE*")
# What only the pipeline reads.
INTERNAL = ("base.json", "lora_inputs.json")


def package(target: str, params: settings.Settings, building: Path) -> None:
    """Fill the empty folder `building` with the package of a target."""
    captured = CAPTURED / target
    for path in sorted(captured.iterdir()):
        if path.name not in INTERNAL:
            shutil.copyfile(path, building / path.name)
    for name in params.adapters:
        shutil.copytree(CONVERTED / target / name, building / "adapters" / name)
    for pattern in LICENCES:
        for path in sorted(BASE.glob(pattern)):
            shutil.copyfile(path, building / path.name)
    # Of all but the texts that tell it.
    size = files.size(building)
    metrics = files.read_json(REPORTS / target / "metrics.json") | {"package": {"bytes": size}}
    cases = ladder.read_cases(REPORTS / target / "cases.jsonl")
    results = gates.judge(params.gates, metrics, params.adapters, cases)
    files.write_json(building / "metrics.json", metrics)
    (building / "README.md").write_text(card.render(target, params, metrics, results, BASE), encoding="utf-8")
    manifest = {
        "name": params.package.name,
        "target": target,
        "base_sha256": files.read_json(captured / "base.json")["base_sha256"],
        "gates": [asdict(result) for result in results],
        "inputs": inputs(target, params),
        "files": files.digests(building),
    }
    files.write_json(building / MANIFEST, manifest)


def inputs(target: str, params: settings.Settings) -> dict:
    """Return what the package was built from: parameters, digests of base model, data and libraries, and machines."""
    texts = (params.quantize.calibration.data, params.evaluate.general.data)
    data = {
        adapter.data: files.read_json(PREPARED / name / "adapter.json")["data_sha256"]
        for name, adapter in params.adapters.items()
    }
    return {
        "params": {
            **params.model_dump(
                include={"seed", "threads", "device", "base", "quantize", "adapters", "evaluate", "gates", "package"}
            ),
            "targets": {target: params.target(target).model_dump()},
        },
        "base_model_sha256": files.folder_digest(BASE),
        "data_sha256": {**data, **{path: files.sha256(Path(path)) for path in texts}},
        "environment_sha256": files.digests(ENVIRONMENT),
        "machines": {
            **{name: machine.recorded(name) for name in ("fetch", "quantize")},
            "finetune": {name: machine.recorded(f"finetune/{name}") for name in params.adapters},
            **{name: machine.recorded(f"{name}/{target}") for name in ("capture", "evaluate")},
        },
    }


def main(target: str) -> None:
    output = OUTPUT / target
    with files.replaced(output) as building:
        package(target, settings.load(), building)
    print(f"{output}: {files.size(output) / 1e6:.0f} MB")
    for result in files.read_json(output / MANIFEST)["gates"]:
        if not result["passed"]:
            print(f"gate not passed, so that `make publish` refuses it: {result['gate']} ({result['reason']})")


if __name__ == "__main__":
    cli.run(main)
