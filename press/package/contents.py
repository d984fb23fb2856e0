"""The files of a package, and the manifest that names each of them and what they were built from."""

import shutil
from dataclasses import asdict
from pathlib import Path

from press.core import files, machine, nested, paths
from press.package import card, origin
from press.params import gates, settings
from press.quality import ladder

LEGAL = (origin.LICENCES, "NOTICE*")
# What only the pipeline reads.
INTERNAL = (paths.BASE_DIGEST, paths.LAYOUT)


def gather(target: str, params: settings.Settings, building: Path) -> None:
    """Fill the empty folder `building` with the package of a target."""
    captured = paths.CAPTURED / target
    for path in sorted(captured.iterdir()):
        if path.name not in INTERNAL:
            shutil.copyfile(path, building / path.name)
    for name in params.adapters:
        shutil.copytree(paths.CONVERTED / target / name, building / "adapters" / name)
    for pattern in LEGAL:
        for path in sorted(paths.BASE.glob(pattern)):
            shutil.copyfile(path, building / path.name)
    # The files that are written below tell it, and so cannot be counted.
    size = files.size(building)
    metrics = files.read_json(paths.EVALUATED / target / paths.METRICS) | {"package": {"bytes": size}}
    cases = ladder.read_cases(paths.EVALUATED / target / paths.CASES)
    results = gates.judge(params.gates, metrics, params.adapters, cases)
    files.write_json(building / paths.METRICS, metrics)
    (building / "README.md").write_text(card.render(target, params, metrics, results, paths.BASE), encoding="utf-8")
    manifest = {
        "name": params.package.name,
        "target": target,
        "base_sha256": files.read_json(captured / paths.BASE_DIGEST)["base_sha256"],
        "gates": [asdict(result) for result in results],
        "inputs": inputs(target, params),
        "files": files.digests(building),
    }
    files.write_json(building / paths.MANIFEST, manifest)


def inputs(target: str, params: settings.Settings) -> dict:
    """Return what the package was built from: parameters, digests of base model, data and libraries, and machines."""
    texts = (params.quantize.calibration.data, params.evaluate.general.data)
    data = {
        adapter.data: files.read_json(paths.PREPARED / name / paths.ADAPTER_MANIFEST)["data_sha256"]
        for name, adapter in params.adapters.items()
    }
    built_with = nested.in_order(
        {**params.model_dump(exclude={"targets"}), "targets": {target: params.target(target).model_dump()}}
    )
    return {
        "params": built_with,
        "base_model_sha256": files.folder_digest(paths.BASE),
        "data_sha256": {**data, **{path: files.sha256(Path(path)) for path in texts}},
        "environment_sha256": files.digests(paths.ENVIRONMENT),
        "machines": {
            **{name: machine.recorded(name) for name in ("fetch", "quantize")},
            "finetune": {name: machine.recorded(f"finetune/{name}") for name in params.adapters},
            **{name: machine.recorded(f"{name}/{target}") for name in ("capture", "evaluate")},
        },
    }
